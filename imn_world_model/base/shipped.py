"""Where the model that comes with the package lies, in a checkout and after any installation."""
from pathlib import Path

NAME = Path('export') / 'demo.onnx'


def shipped_model() -> str:
    """:return: the path of the demo model that comes with the package, '' where there is none."""
    above = Path(__file__).parents
    # In a source tree, or where colcon and pip install it beside their lib/.
    folders = (above[2], *(folder / 'share' / 'imn_world_model' for folder in above))
    return next((str(folder / NAME) for folder in folders if (folder / NAME).is_file()), '')
