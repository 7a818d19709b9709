"""Our exceptions; each is also the standard exception that a caller would expect.

A message says what was given, what is wanted, and the remedy.
"""


class GsmLabError(Exception):
    """Everything that gsm_lab raises on purpose."""


class SpecError(GsmLabError, ValueError):
    """Settings of a problem that contradict each other or cannot be reached."""


class GraphError(GsmLabError, ValueError):
    """A dependency graph that is not one."""


class TemplateError(GsmLabError, ValueError):
    """A context or frames file that is missing, malformed or ambiguous."""


class MixtureError(GsmLabError, ValueError):
    """A mixture whose weights or slices do not make sense."""


class DataError(GsmLabError, ValueError):
    """A data set on disk that is damaged, foreign or incomplete."""


class TokenError(GsmLabError, ValueError):
    """Text outside the closed vocabulary, or more tokens than there is room for."""


class CheckpointError(GsmLabError, ValueError):
    """A checkpoint or training state that is damaged or belongs to something else."""


class RecipeError(GsmLabError, ValueError):
    """A recipe that cannot be run."""


class RunError(GsmLabError, RuntimeError):
    """A run folder that belongs to another recipe, or a run that cannot go on."""


class TrainingError(GsmLabError, RuntimeError):
    """Training that cannot teach anything: a constant reward, a loss that is not finite."""


class StorageError(GsmLabError, OSError):
    """A file that could not be written whole: a full disk, a missing permission."""
