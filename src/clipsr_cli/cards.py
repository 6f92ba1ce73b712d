"""The model card of a generator on the Hub, from what its file says of itself."""

import re
from pathlib import Path

from clipsr_cli.checkpoints import Header
from clipsr_cli.hub import SCHEME, sha256

# Licences by the names the Hub knows (its page "Licenses"); any other is "other" with a name.
LICENCES = frozenset(
    {
        "agpl-3.0",
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "gpl-3.0",
        "lgpl-3.0",
        "mit",
        "mpl-2.0",
        "openrail",
        "unlicense",
    }
)
TAGS = ("clipsr", "super-resolution", "image-super-resolution", "text-guided", "clip")


def model_card(path: Path, header: Header, repository: str) -> str:
    """Markdown with the front matter that the Hub reads.

    Args:
        path: the generator's file, whose name, size and sha256 the card states.
        header: what it says of itself.
        repository: ``owner/repo``, where it goes.
    """
    scale = header.config.scale
    notes = dict(header.notes)
    licence = notes.pop("licence", "")
    facts = {
        "enlarges": f"x{scale}",
        "architecture": header.architecture,
        "CLIP": header.clip,
        "licence": licence or "not stated",
        **{name: notes[name] for name in sorted(notes)},
        "file": f"{path.name}, {path.stat().st_size / 1e6:.1f} MB",
        "sha256": sha256(path),
    }
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    reference = f"{SCHEME}{repository}/{path.name}"
    return f"""---
{_front(licence)}
---

# {repository.partition("/")[2]}

Enlarges images x{scale}, with words on what they show guiding what the missing detail becomes: a
generator for [clipsr](https://pypi.org/project/clipsr-cli), of the CLIP-SR method (arXiv
2412.11609).

| | |
|---|---|
{rows}

## Use

```sh
pip install clipsr-cli
clipsr upscale photo.jpg --scale {scale} -m {reference} --prompt "a red bird on a branch"
```

## Limits

Detail is invented. Never use the output as evidence: faces, number plates and small text become
plausible, not true.
"""


def _front(licence: str) -> str:
    """The YAML lines between the dashes."""
    if licence.strip().lower() in LICENCES:
        terms = [f"license: {licence.strip().lower()}"]
    elif licence:
        name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") or "other"
        terms = ["license: other", f"license_name: {name[:80]}"]
    else:
        terms = ["license: unknown"]
    tags = [f"- {tag}" for tag in TAGS]
    return "\n".join(
        [*terms, "library_name: clipsr", "pipeline_tag: image-to-image", "tags:", *tags]
    )


def _cell(text: str) -> str:
    """Text that neither ends a table's cell nor is taken for markup."""
    return " ".join(re.sub(r"([\\|`*_<>\[\]])", r"\\\1", text).split())
