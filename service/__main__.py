"""`python -m service` is `forebay`."""

from service.cli import main

main()
