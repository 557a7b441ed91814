"""One stage of a run: `python -m actors.stages STAGE RUN_FOLDER`."""
