// The scenario with connect-node, over the protocol that is named: connect, grpc or grpc-web.
import assert from "node:assert/strict";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { AuthService } from "./node_modules/.stubs/sys/account/v1/auth_pb.js";
import { NoteService } from "./node_modules/.stubs/notes/v1/notes_pb.js";

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
await auth.logout({}, writer);
await refused(() => notes.listNotes({ orgId }, writer), Code.Unauthenticated);
process.exit(0);
