from __future__ import annotations

from training.networks import architectures, layer_table


def test_the_article_network_by_hand() -> None:
    """32 pixels: (32 + 2 - 3) / 1 + 1 = 32, pooled to 16, 8 and 4; fields grow by two steps a layer."""
    rows = layer_table.table(architectures.Pairs().build((32, 32), 10))
    assert [row.name for row in rows] == [
        *("conv1a", "conv1b", "pool1", "conv2a", "conv2b", "pool2", "conv3a", "conv3b", "pool3", "logits")
    ]
    first, second, pool, *_ = rows
    assert (first.kernel, first.stride, first.padding, first.output) == (3, 1, 1, (32, 32, 32))
    assert first.parameters == 3 * 3 * 3 * 32 + 4 * 32  # with the normalisation behind it
    assert first.multiply_adds == 32 * 32 * 3 * 3 * 3 * 32
    assert (first.receptive_field, second.receptive_field) == (3, 5)
    assert (pool.kernel, pool.stride, pool.padding, pool.output, pool.receptive_field) == (2, 2, 0, (16, 16, 32), 6)
    assert [row.receptive_field for row in rows[3:9]] == [10, 14, 16, 24, 32, 32]  # no more than there is
    assert rows[-1].kind == "dense"
    assert rows[-1].multiply_adds == 4 * 4 * 128 * 10
    assert rows[-1].output == (1, 1, 10)
    assert rows[-1].receptive_field == 32


def test_every_parameter_is_counted_once() -> None:
    for network in (architectures.Pairs(), architectures.Whitened((8, 16)), architectures.Whitened((8, 16), depth=3)):
        model = network.build((32, 32), 4)
        assert sum(row.parameters for row in layer_table.table(model)) == model.count_params()


def test_sizes_follow_the_formula() -> None:
    model = architectures.Whitened((8, 16), depth=3).build((128, 96), 4)
    side = 128
    for row in layer_table.table(model):
        if row.kernel:
            assert row.output[0] == (side + 2 * row.padding - row.kernel) // row.stride + 1
            side = row.output[0]
