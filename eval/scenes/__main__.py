from eval.scenes.run.run import main
from pacl.errors import run_verb

if __name__ == "__main__":
    run_verb("scenes", main)
