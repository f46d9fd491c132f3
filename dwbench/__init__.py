"""dwbench: every data-selection method for LLM fine-tuning on one footing."""

from importlib.metadata import version

__version__ = version("dwbench")
