"""Which model a job wants: a field that several actions share."""

from pydantic import AliasChoices, Field

from engine.jobs.fields import Fields


class ModelField(Fields):
    """Model"""

    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        validation_alias=AliasChoices("dit_model", "model_name", "model_id"),
        json_schema_extra={"x-default": "the worker's first"},
        description="catalog name or published file name, with or without suffix",
    )
