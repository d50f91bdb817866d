// The scenario with connect-node, over the protocol that is named: connect, grpc or grpc-web.
import assert from "node:assert/strict";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { AuthService } from "./node_modules/.stubs/sys/account/v1/auth_pb.js";
import { NoteService } from "./node_modules/.stubs/notes/v1/notes_pb.js";
import { WatchEvent } from "./node_modules/.stubs/sys/policy/v1/policy_pb.js";

const baseUrl = process.env.SYS_URL;
const transports = {
  connect: () => createConnectTransport({ baseUrl, httpVersion: "1.1" }),
  grpc: () => createGrpcTransport({ baseUrl }),
  "grpc-web": () => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
};
const transport = transports[process.argv[2]]();
const auth = createClient(AuthService, transport);
const notes = createClient(NoteService, transport);

async function logIn(email) {
  const pair = await auth.login({ email, password: "a passphrase of nobody", deviceName: "connect-node" });
  return { headers: { authorization: `Bearer ${pair.accessToken}` } };
}

async function refused(call, code) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code], error.message);
    assert.ok(error.details.length > 0, "an error says its reason");
    return true;
  });
}

// The events of a watch up to CURRENT: what happened, and the id.
async function watched(events) {
  const told = [];
  for (;;) {
    const { value, done } = await events.next();
    assert.ok(!done, "a watch ends with a reason");
    told.push([WatchEvent[value.event], value.id]);
    if (value.event === WatchEvent.CURRENT) return { told, resumeToken: value.resumeToken };
  }
}

// A stream of answers: what is shown, what becomes new, and on from a token. Gives a stream that is open.
async function watch() {
  const leaving = new AbortController();
  const events = notes.watchNotes({ orgId }, { ...writer, signal: leaving.signal })[Symbol.asyncIterator]();
  assert.equal((await watched(events)).told[0][0], "RESET");
  const note = await notes.createNote({ note: { orgId, projectId, title: "Watched from Node" } }, writer);
  const { told, resumeToken } = await watched(events);
  assert.deepEqual(told, [["ADDED", note.id], ["CURRENT", ""]]);
  leaving.abort();
  await notes.deleteNote({ id: note.id }, writer);
  const again = notes.watchNotes({ orgId, resumeToken }, writer)[Symbol.asyncIterator]();
  assert.deepEqual((await watched(again)).told, [["REMOVED", note.id], ["CURRENT", ""]]);
  return again;
}

const writer = await logIn("writer@example.org");
const guest = await logIn("guest@example.org");
const { orgId, projectId } = (await auth.whoAmI({}, writer)).bindings[0];
const created = await notes.createNote({ note: { orgId, projectId, title: "From Node" } }, writer);
assert.match(created.id, /^note_/);
const page = await notes.listNotes({ orgId }, writer);
assert.ok(page.notes.some((note) => note.id === created.id));
await refused(() => notes.createNote({ note: { orgId, projectId, title: "Not mine to write" } }, guest), Code.PermissionDenied);
await refused(() => notes.listNotes({ orgId }), Code.Unauthenticated);
await refused(() => notes.createNote({ note: { orgId, projectId, title: "" } }, writer), Code.InvalidArgument);
await refused(() => watched(notes.watchNotes({ orgId })[Symbol.asyncIterator]()), Code.Unauthenticated);
const nonsense = notes.watchNotes({ orgId, filter: "nonsense ==" }, writer);
await refused(() => watched(nonsense[Symbol.asyncIterator]()), Code.InvalidArgument);
const open = await watch();
await auth.logout({}, writer);
// A stream that is open ends with its session.
await refused(() => watched(open), Code.Unauthenticated);
await refused(() => notes.listNotes({ orgId }, writer), Code.Unauthenticated);
process.exit(0);
