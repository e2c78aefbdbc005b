"""`python -m local_stack`, which is what `make run` calls."""

import sys

try:
    from local_stack.run import main
except ModuleNotFoundError as missing:
    print(f"The Python package {missing.name} is missing: start with `make run`, which installs it.", file=sys.stderr)
    sys.exit(1)

if __name__ == "__main__":
    sys.exit(main())
