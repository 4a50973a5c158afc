"""What the API refuses as a whole, and how it reads a body. Knows no faults and no sockets."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from importer.sandbox.answers import Breach
from importer.sandbox.settlement import poisonous_positions
from importer.sandbox.sids import Batch, batch_of

if TYPE_CHECKING:
    from importer.sandbox.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a request before its body."""

    account_sid: str
    list_sid: str
    authorization: str
    content_type: str


class _Reference(msgspec.Struct, gc=False):
    contact_sid: str


class _Body(msgspec.Struct, gc=False):
    contact_references: list[_Reference]


_DECODER = msgspec.json.Decoder(_Body)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def authentication_breach(head: Head, scenario: Scenario) -> Breach | None:
    """Return what is wrong with the credentials, if anything."""
    scheme, _, token = head.authorization.partition(" ")
    expected = base64.b64encode(f"{scenario.api_key}:{scenario.api_token}".encode()).decode()
    if scheme.lower() != "basic" or token.strip() != expected:
        return Breach(401, 1010, "The API key and token are not valid")
    return None


def account_breach(head: Head, scenario: Scenario) -> Breach | None:
    """Return what is wrong with the account in the address, if anything."""
    if head.account_sid == scenario.account_sid:
        return None
    if scenario.api.wrong_account == 403:
        return Breach(403, 1003, "These credentials are not those of this account")
    return Breach(401, 1010, "These credentials are not those of this account")


def list_breach(head: Head, scenario: Scenario) -> Breach | None:
    """Return what is wrong with the list in the address, if anything."""
    if head.list_sid in scenario.lists:
        return None
    if scenario.api.unknown_list == 403:
        return Breach(403, 1003, "There is no such list, or it belongs to another account")
    return Breach(404, 1000, "There is no such list")


def content_type_breach(head: Head) -> Breach | None:
    """Return what is wrong with the content type, if anything."""
    if head.content_type.partition(";")[0].strip().lower() == "application/json":
        return None
    return Breach(415, 1011, "Content-Type must be application/json")


def read_body(body: bytes) -> Batch | Breach:
    """Return the contacts that a body names, or what is wrong with it. Its length is not judged."""
    try:
        references = _DECODER.decode(body).contact_references
    except _UNREADABLE:
        return _body_breach(body)
    if not references:
        return Breach(400, 1001, "contact_references is empty")
    return batch_of([reference.contact_sid for reference in references])


def batch_breach(batch: Batch, scenario: Scenario) -> Breach | None:
    """Return why a well-formed body as a whole is refused, if it is."""
    api = scenario.api
    if len(batch.keys) > api.max_contacts:
        return Breach(api.too_many, 1002, f"At most {api.max_contacts} contact_references are allowed")
    if api.malformed == "request" and batch.raw is None:
        index = next(index for index, key in enumerate(batch.keys) if isinstance(key, str))
        return Breach(400, 1002, f"contact_references[{index}].contact_sid is not a valid sid")
    if api.poison.is_active and api.poison.sinks:
        culprits = poisonous_positions(batch, scenario)
        if culprits:
            named = f": {batch.sids[culprits[0]]}" if api.poison.names_the_sid else ""
            return Breach(400, 1002, f"A contact is not valid{named}")
    return None


def _body_breach(body: bytes) -> Breach:
    """Say what a body that is not as documented lacks, from the outside in."""
    try:
        raw = msgspec.json.decode(body)
    except _UNREADABLE:
        return Breach(400, 1007, "The request body is not valid JSON")
    references = raw.get("contact_references") if isinstance(raw, dict) else None
    if references is None:
        return Breach(400, 1001, "contact_references is missing")
    if not isinstance(references, list):
        return Breach(400, 1002, "contact_references must be a list")
    for index, item in enumerate(references):
        where = f"contact_references[{index}]"
        if not isinstance(item, dict) or "contact_sid" not in item:
            return Breach(400, 1001, f"{where} has no contact_sid")
        if not isinstance(item["contact_sid"], str):
            return Breach(400, 1002, f"{where}.contact_sid must be a text")
    return Breach(400, 1007, "The request body cannot be read")
