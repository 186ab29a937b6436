"""``python -m captum_vit``: the command, by an interpreter of one's choice."""

from captum_vit.cli import main

if __name__ == "__main__":
    main()
