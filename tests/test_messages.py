"""Transform messages as matrices and back."""
import numpy as np
import pytest
from images import header
from imn_msgs.msg import Transform

from imn_world_model.base.errors import UserError
from imn_world_model.nodes.messages import (
    TransformArrays,
    arrays_to_transform,
    floats,
    transform_to_arrays,
)


def example() -> TransformArrays:
    random = np.random.default_rng(0)

    def numbers(*shape):
        return random.normal(size=shape).astype(np.float32)

    return TransformArrays(4, np.array([True, False, True]), numbers(5, 5), numbers(3, 5, 5),
                           numbers(3, 2), numbers(3, 2) ** 2)


def test_arrays_survive_the_message_unchanged():
    arrays = example()
    message = arrays_to_transform(header('camera'), '/front', arrays)
    back = transform_to_arrays(message)
    assert back.identity == arrays.identity
    for name in ('active', 'transform', 'module_transforms', 'latent_mean', 'latent_variance'):
        np.testing.assert_array_equal(getattr(back, name), getattr(arrays, name))


def test_message_layout_is_row_major_as_its_comments_say():
    arrays = example()
    message = arrays_to_transform(header('camera'), '/front', arrays)
    u, L = message.dim, message.latent_dim
    assert message.transform[1 * u + 2] == arrays.transform[1, 2]
    assert message.module_transforms[2 * u * u + 3 * u + 4] == arrays.module_transforms[2, 3, 4]
    assert message.latent_mean[2 * L + 1] == arrays.latent_mean[2, 1]


def test_contradicting_lengths_are_an_error_that_names_the_field():
    message = arrays_to_transform(header('camera'), '/front', example())
    message.latent_variance = floats(np.zeros(5))
    with pytest.raises(UserError, match='Transform.latent_variance holds 5 numbers'):
        transform_to_arrays(message)
    with pytest.raises(UserError, match='Transform.transform'):
        transform_to_arrays(Transform(dim=3))
