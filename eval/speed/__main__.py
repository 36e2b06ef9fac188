from eval.speed.run import main
from pacl.cli.messages import run_verb

if __name__ == "__main__":
    run_verb("eval.speed", main)
