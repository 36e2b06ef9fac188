import sys
from types import TracebackType

import pacl  # noqa: F401  (tells a Python that lacks torch in one line)

if sys.argv[:1] == ["-m"]:  # while Python looks for a command, whose imports take seconds before `run_verb` begins
    _usual = sys.excepthook

    def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):  # Python then ends as a shell expects, with code 130
            print("eval: interrupted", file=sys.stderr)
        else:
            _usual(kind, error, trace)

    sys.excepthook = _hook
