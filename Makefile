# The two commands of the README, and a few for maintenance.
#
#   make demo   create an environment, install pacl, and segment a photo
#   make test   the same with the development tools, then run the tests
#   make help   print these lines
#
#   make demo PYTHON=python3.12                        use another Python (3.10 or newer)
#   make demo PIP_INSTALL_ARGS="--index-url URL"       further arguments for `pip install`, such as a mirror
#   make test PYTEST_ARGS="tests/segment"              arguments for pytest

PYTHON ?= python3
VENV ?= .venv
PIP_INSTALL_ARGS ?=
# All tests run side by side, the tests of one file in one process.
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist loadfile

# The photo is by Stefan van der Walt (CC0); it is "chelsea" in scikit-image's sample images.
DEMO_PROMPTS := "cat" "blanket"
DEMO_OPTIONS = --model photos --refine 10 --prior -0.3
DRAWN_PROMPTS = "a blue fish" "an orange moon" "a red boat" "sky" "a purple mushroom" "sand"
DRAWN_OPTIONS = --model bundled --size 96 --stride 4 --refine 10

RUN = $(VENV)/bin/python
# Stamp files, written after a successful install: make installs again if they are missing or older than pyproject.toml.
INSTALLED = $(VENV)/.installed
INSTALLED_DEV = $(VENV)/.installed-dev

.PHONY: demo test help images clean prerequisites
.DEFAULT_GOAL := demo

demo: $(INSTALLED)
	@$(RUN) -m pacl.segment pacl/photos/demo.jpg $(DEMO_PROMPTS) $(DEMO_OPTIONS) --out out/demo

test: $(INSTALLED_DEV)
	$(RUN) -m pytest $(PYTEST_ARGS)

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# Make the images of the README: the demo photo with its labels, and a procedural scene with those of the bundled model;
# docs/settings.jpg: the demo photo with four settings, in two rows.
# The scene is not in the training data, which does not contain any blue fish either.
images: demo
	$(RUN) -c "from PIL import Image; Image.open('out/demo/demo.overlay.png').convert('RGB').save('docs/photo.jpg', quality=90)"
	$(RUN) -c "from PIL import Image; from pacl.scenes.drawing import scene; Image.fromarray(scene('test', 93, \
	  pairs='all', n_objects=4, size=(480, 640)).image).save('pacl/bundled/demo.jpg', quality=92)"
	$(RUN) -m pacl.segment pacl/bundled/demo.jpg $(DRAWN_PROMPTS) $(DRAWN_OPTIONS) --out out/drawn
	$(RUN) -c "from PIL import Image; Image.open('out/drawn/demo.overlay.png').save('docs/demo.jpg', quality=90)"
	for each in "none:" "prior:--prior -0.3" "refine:--prior -0.3 --refine 10" "peak:--background peak"; do \
	  $(RUN) -m pacl.segment pacl/photos/demo.jpg $(DEMO_PROMPTS) --model photos $${each#*:} --out out/settings/$${each%%:*} || exit; done
	$(RUN) -c "from PIL import Image; names = 'none', 'prior', 'refine', 'peak'; \
	  made = [Image.open(f'out/settings/{name}/demo.overlay.png').convert('RGB') for name in names]; \
	  made = [image.resize((image.width // 2, image.height // 2)) for image in made]; \
	  sheet = Image.new('RGB', (846, 684), 'white'); \
	  [sheet.paste(image, (i % 2 * 427, i // 2 * 344)) for i, image in enumerate(made)]; \
	  sheet.save('docs/settings.jpg', quality=88)"

clean:
	rm -rf $(VENV) out build dist

# Each check fails with one line that says what is missing.
prerequisites:
	$(if $(shell command -v git 2>/dev/null),,$(error git is missing: install it (Debian: apt install git)))
	$(if $(shell command -v $(PYTHON) 2>/dev/null),,$(error $(PYTHON) is missing: install Python 3.10 or newer, or name one with PYTHON=))
	$(if $(call can,import sys; assert sys.version_info >= (3, 10)),,$(error \
	  $(PYTHON) is older than 3.10: name a newer one, for example PYTHON=python3.12))
	$(if $(call can,import venv; import ensurepip),,$(error \
	  $(PYTHON) lacks the venv module: install it (Debian: apt install python3-venv)))
	@:

# "yes" if PYTHON runs the statement without an error.
can = $(shell $(PYTHON) -c '$(1)' 2>/dev/null && echo yes)

$(VENV)/bin/python: | prerequisites
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | prerequisites $(VENV)/bin/python
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)  # (an interrupted one)
	@echo "Installing into $(VENV); the first time takes minutes, since torch and its libraries have several GB."
	@$(RUN) -m pip install --disable-pip-version-check $(PIP_INSTALL_ARGS) -e .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(INSTALLED)
	@$(RUN) -m pip install --disable-pip-version-check $(PIP_INSTALL_ARGS) -e ".[dev]"
	@touch $@
