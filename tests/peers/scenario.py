"""The scenario over gRPC, with grpcio and stubs that protoc made."""

import importlib
import os
import sys
from urllib.parse import urlparse

import grpc

# The stubs' package is called `sys`, which Python has taken: its folder joins the path of that module.
sys.__path__ = [os.path.join(path, "sys") for path in os.environ["PYTHONPATH"].split(os.pathsep)]
auth = importlib.import_module("sys.account.v1.auth_pb2")
auth_grpc = importlib.import_module("sys.account.v1.auth_pb2_grpc")
notes = importlib.import_module("notes.v1.notes_pb2")
notes_grpc = importlib.import_module("notes.v1.notes_pb2_grpc")
policy = importlib.import_module("sys.policy.v1.policy_pb2")

PASSWORD = "a passphrase of nobody"


def log_in(channel, email):
    """Metadata with the access token of a new login."""
    request = auth.LoginRequest(email=email, password=PASSWORD, device_name="grpcio")
    pair = auth_grpc.AuthServiceStub(channel).Login(request, timeout=30)
    return [("authorization", f"Bearer {pair.access_token}")]


def refused(call, code, reason):
    """Fails unless the call is refused with this code and reason."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
        assert reason.encode() in details, (reason, details)
    else:
        raise AssertionError(f"not refused with {code}")


def watched(events):
    """The events up to CURRENT: what happened, and the id."""
    told = []
    for event in events:
        told.append((policy.WatchEvent.Name(event.event), event.id))
        if told[-1][0].endswith("CURRENT"):
            return told, event.resume_token
    raise AssertionError(f"the watch has ended after {told}")


def watch(service, place, metadata):
    """A stream of answers: what is shown, what becomes new, and on from a token. Gives a stream that is open."""
    request = notes.WatchNotesRequest(org_id=place["org_id"])
    events = service.WatchNotes(request, metadata=metadata, timeout=60)
    told, _ = watched(events)
    assert told[0][0].endswith("RESET"), told
    created = service.CreateNote(
        notes.CreateNoteRequest(note=notes.Note(title="Watched from Python", **place)), metadata=metadata, timeout=30
    )
    told, token = watched(events)
    assert [(what.split("_")[-1], id) for what, id in told] == [("ADDED", created.id), ("CURRENT", "")], told
    events.cancel()
    service.DeleteNote(notes.DeleteNoteRequest(id=created.id), metadata=metadata, timeout=30)
    request.resume_token = token
    events = service.WatchNotes(request, metadata=metadata, timeout=60)
    told, _ = watched(events)
    assert [(what.split("_")[-1], id) for what, id in told] == [("REMOVED", created.id), ("CURRENT", "")], told
    return events


def main():
    with grpc.insecure_channel(urlparse(os.environ["SYS_URL"]).netloc) as channel:
        writer, guest = log_in(channel, "writer@example.org"), log_in(channel, "guest@example.org")
        who = auth_grpc.AuthServiceStub(channel).WhoAmI(auth.WhoAmIRequest(), metadata=writer, timeout=30)
        place = {"org_id": who.bindings[0].org_id, "project_id": who.bindings[0].project_id}
        service = notes_grpc.NoteServiceStub(channel)
        new = notes.CreateNoteRequest(note=notes.Note(title="From Python", **place))
        created = service.CreateNote(new, metadata=writer, timeout=30)
        assert created.id.startswith("note_") and created.author_id == who.account_id
        page = service.ListNotes(notes.ListNotesRequest(org_id=place["org_id"]), metadata=writer, timeout=30)
        assert created.id in [note.id for note in page.notes]
        refused(
            lambda: service.CreateNote(new, metadata=guest, timeout=30),
            grpc.StatusCode.PERMISSION_DENIED,
            "REFUSED",
        )
        refused(
            lambda: service.ListNotes(notes.ListNotesRequest(org_id=place["org_id"]), timeout=30),
            grpc.StatusCode.UNAUTHENTICATED,
            "UNAUTHENTICATED",
        )
        untitled = notes.CreateNoteRequest(note=notes.Note(title="", **place))
        refused(
            lambda: service.CreateNote(untitled, metadata=writer, timeout=30),
            grpc.StatusCode.INVALID_ARGUMENT,
            "note.title",
        )
        refused(
            lambda: next(service.WatchNotes(notes.WatchNotesRequest(org_id=place["org_id"]), timeout=30)),
            grpc.StatusCode.UNAUTHENTICATED,
            "UNAUTHENTICATED",
        )
        nonsense = notes.WatchNotesRequest(org_id=place["org_id"], filter="nonsense ==")
        refused(
            lambda: next(service.WatchNotes(nonsense, metadata=writer, timeout=30)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "filter",
        )
        events = watch(service, place, writer)
        auth_grpc.AuthServiceStub(channel).Logout(auth.LogoutRequest(), metadata=writer, timeout=30)
        # A stream that is open ends with its session.
        refused(lambda: watched(events), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REFUSED")
        refused(
            lambda: service.ListNotes(notes.ListNotesRequest(org_id=place["org_id"]), metadata=writer, timeout=30),
            grpc.StatusCode.UNAUTHENTICATED,
            "TOKEN_REFUSED",
        )


main()
