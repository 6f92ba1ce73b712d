"""Whatever a generator's config and tensors are, its file brings them back."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli.checkpoints import read_header, read_tensors, save_generator
from clipsr_cli.models.blocks import TEXT_NORMS
from clipsr_cli.models.generator import SCALES, SKIPS, GeneratorConfig

four = st.tuples(*[st.integers(1, 64)] * 4)
configs = st.builds(
    GeneratorConfig,
    scale=st.sampled_from(SCALES),
    widths=four,
    encoder_blocks=four,
    decoder_blocks=four,
    head_widths=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    text_hidden=st.integers(1, 256),
    text_norm=st.sampled_from(TEXT_NORMS),
    prompts=st.integers(1, 12),
    clip_weight=st.floats(0, 1),
    skip=st.sampled_from(SKIPS),
)
states = st.dictionaries(
    st.from_regex(r"[a-z]{1,8}(\.[a-z0-9]{1,8}){0,3}", fullmatch=True),
    st.lists(st.floats(-1000, 1000, width=16), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=50)
@given(config=configs, state=states, clip=st.text(max_size=20), half=st.booleans())
def test_config_clip_and_tensors_come_back(tmp_path_factory, config, state, clip, half):
    path = tmp_path_factory.mktemp("c") / "g.safetensors"
    tensors = {name: torch.tensor(values) for name, values in state.items()}

    save_generator(tensors, config, clip, path, half=half)

    header = read_header(path)
    assert (header.config, header.clip) == (config, clip)
    found = read_tensors(path)
    assert found.keys() == tensors.keys()
    # The values drawn are exact in 16 bit, so either width brings them back.
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
