"""Templates: launches with places for parameters, kept by an organisation."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, ValidationError

from phoenix.api.access import Developer, Reader, allows
from phoenix.api.launches import NewProject, launch_project
from phoenix.api.payloads import Page, Payload
from phoenix.api.versions import IfMatch, etag, expected
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.identity import Name, Principal
from phoenix.domain.run import Project
from phoenix.domain.template import Parameter, ParameterName, ParameterValue, Template, filled
from phoenix.engine import templates
from phoenix.errors import PayloadInvalid

router = APIRouter(prefix="/templates", tags=["templates"], route_class=WorkRoute)

Launcher = Annotated[Principal, allows("develop", limit="launch")]
Description = Annotated[str, Field(max_length=2000)]
Parameters = Annotated[
    list[Parameter],
    Field(max_length=50, examples=[[{"name": "language", "default": "Python", "choices": ["Python", "Go"]}]]),
]


class TemplateLaunch(NewProject):
    """A launch whose requirement, title and repository may hold `{{ parameter }}`."""

    requirement: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20_000,
            examples=["A command-line tool in {{ language }} that counts words."],
        ),
    ]


class NewTemplate(Payload):
    """A template to make."""

    name: Name
    description: Description = ""
    launch: TemplateLaunch
    parameters: Parameters = []


class TemplateChange(Payload):
    """What can be changed of a template; what is left out stays."""

    name: Name | None = None
    description: Description | None = None
    launch: TemplateLaunch | None = None
    parameters: Parameters | None = None


class Values(Payload):
    """The parameters of a launch from a template."""

    parameters: Annotated[
        dict[ParameterName, ParameterValue], Field(max_length=50, examples=[{"language": "Go"}])
    ] = {}


@router.get("")
async def list_templates(
    _who: Reader,
    work: InWork,
    cursor: Annotated[str, Query(max_length=100, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[Template]:
    """List the organisation's templates by name."""
    if "\0" in cursor:
        raise PayloadInvalid("This cursor is not one that a list gave.", field="query.cursor")
    items, following = await templates.page(work, after=cursor, limit=limit)
    return Page(items=items, next=following)


@router.post("", status_code=201)
async def add_template(given: NewTemplate, _who: Developer, work: InWork, response: Response) -> Template:
    """Make a template. Each parameter has its place in the launch, and each place its parameter."""
    made = await templates.add(
        work,
        name=given.name,
        description=given.description,
        launch=given.launch.model_dump(mode="json"),
        parameters=given.parameters,
    )
    response.headers["ETag"] = etag(made.version)
    return made


@router.get("/{template_id}")
async def read_template(template_id: UUID, _who: Reader, work: InWork, response: Response) -> Template:
    """Read a template."""
    found = await templates.get(work, template_id)
    response.headers["ETag"] = etag(found.version)
    return found


@router.patch("/{template_id}")
async def change_template(
    template_id: UUID,
    given: TemplateChange,
    _who: Developer,
    work: InWork,
    response: Response,
    if_match: IfMatch = None,
) -> Template:
    """Change a template; projects that were launched from it stay as they are."""
    values: dict[str, Any] = given.model_dump(mode="json", exclude_none=True)
    if given.launch is not None:
        values["launch"] = given.launch.model_dump(mode="json")
    changed = await templates.change(work, template_id, values, version=expected(if_match))
    response.headers["ETag"] = etag(changed.version)
    return changed


@router.delete("/{template_id}", status_code=204, response_class=Response)
async def remove_template(template_id: UUID, _who: Developer, work: InWork) -> None:
    """Delete a template; projects that were launched from it stay."""
    await templates.remove(work, template_id)


@router.post("/{template_id}/projects", status_code=202)
async def launch_from_template(
    template_id: UUID, given: Values, who: Launcher, work: InWork, request: Request, response: Response
) -> Project:
    """Launch a project from a template, with values for its parameters."""
    template = await templates.get(work, template_id)
    try:
        order = NewProject.model_validate(filled(template, given.parameters))
    except ValidationError as error:
        # A value may make a text too long.
        first = error.errors()[0]
        raise PayloadInvalid(
            f"With these values the launch does not fit: {first['msg']}",
            field=f"launch.{'.'.join(map(str, first['loc']))}",
        ) from error
    return await launch_project(request, response, who, order, work=work, template=str(template.id))
