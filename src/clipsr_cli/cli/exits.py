"""How a command ends where no error ends it: exit codes that several commands have in common."""

from clipsr_cli.errors import ImageError

# The others are done.
SOME_FAILED = ImageError.exit_code
# What is done is kept. 128 and the number of SIGINT, as shells have it.
INTERRUPTED = 130
