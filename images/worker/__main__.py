"""Entry point of the image: `python3.11 -I -m worker`."""

from worker.supervisor import main

if __name__ == "__main__":
    main()
