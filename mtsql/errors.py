"""The errors a user can cause, in one tree.

UserError            a mistake in a file, a key or a command: one line, exit code 2
  ConfigError        a recipe or an override
  DataError          a dialogue file, a schema file or a database
  ModelError         a model folder
  MachineError       no disk, no port, a missing package
"""


class UserError(Exception):
    """A mistake that the user can mend; one line names the file, the key and the fix."""


class ConfigError(UserError):
    """A recipe or an override is wrong."""


class DataError(UserError):
    """A dialogue file, a schema file or a database is missing or malformed."""


class ModelError(UserError):
    """A model path holds no model that can be loaded."""


class MachineError(UserError):
    """The machine lacks something: disk space, a free port, a package."""
