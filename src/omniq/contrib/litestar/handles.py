"""Task handles in answers: strings, for the encoder and in the OpenAPI schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin

from omniq.handle import AsyncTaskHandle
from omniq.sync import TaskHandle

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.typing import FieldDefinition

HANDLES = (AsyncTaskHandle, TaskHandle)
ENCODERS: dict[Any, Any] = dict.fromkeys(HANDLES, str)
"""msgspec refuses subclasses of str, which the handles are."""


class HandleSchemas(OpenAPISchemaPlugin):
    """Describes a handle as what a client gets: the task's id."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return (field_definition.origin or field_definition.annotation) in HANDLES

    def to_openapi_schema(
        self, field_definition: FieldDefinition, schema_creator: SchemaCreator
    ) -> Schema:
        return Schema(
            type=OpenAPIType.STRING, format=OpenAPIFormat.UUID, description="A task's id."
        )
