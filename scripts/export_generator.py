"""Copy a trained generator to a file of half the size: fp16 tensors, the same header.

python scripts/export_generator.py runs/x8/generator.safetensors \
    src/clipsr_cli/assets/clipsr-mini-x8.safetensors
"""

import sys
from pathlib import Path

from clipsr_cli.checkpoints import read_header, read_tensors, save_generator


def main(source: Path, target: Path) -> None:
    header = read_header(source)
    save_generator(
        read_tensors(source), header.config, header.clip, target, architecture=header.architecture
    )
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
