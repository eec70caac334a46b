"""What is in images, with `kernelscope.client`: python predict.py http://localhost:8000 cat.jpg dog.png ..."""

import os
import sys

from kernelscope.client import Client, ClientError, Rejected


def main(url: str, paths: list[str]) -> None:
    """Print the class of each image, or why it has none."""
    with Client(url, api_key=os.environ.get("KERNELSCOPE_API_KEY"), timeout=30) as client:
        for path, answer in zip(paths, client.predict_many(paths), strict=True):
            if isinstance(answer, Rejected):
                print(f"{path}: {answer.message}")
            else:
                print(f"{path}: {answer.label} {answer.probability:.3f}{' (unsure)' if answer.unsure else ''}")


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except ClientError as error:
        sys.exit(str(error))
