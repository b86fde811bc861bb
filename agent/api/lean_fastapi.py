"""FastAPI, loaded without making ready what it describes an API with: 30 models, until somebody asks for that.

Imported before anything else that loads FastAPI: they were a twentieth of the processor time of the start.
"""

from pydantic import BaseModel

# For FastAPI's models only, which are named nowhere else. Ours say for themselves whether they wait.
BaseModel.model_config["defer_build"] = True
import fastapi.openapi.models  # noqa: E402, F401 - see above

del BaseModel.model_config["defer_build"]
