"""``python -m clipsr_cli`` is the command ``clipsr``."""

from clipsr_cli.cli import main

if __name__ == "__main__":
    main()
