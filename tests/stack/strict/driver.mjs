// A person whose client leaves out devices that are not cross-signed, as JSON lines.
//
//   in    {"id": 1, "do": "send", "room": "!r", "type": "m.room.message", "content": {...}}
//   out   {"id": 1, "result": ...} or {"id": 1, "error": "..."}
//   out   {"event": {...}}         each time that the client knows more about an event
//
// The first line is the account: {"baseUrl", "userId", "accessToken", "deviceId", "password",
// "identity"}; without `identity` it is left as it is.
for (const name of ["log", "info", "warn", "debug", "trace", "error"]) {
    console[name] = (...args) => process.stderr.write(args.map(String).join(" ") + "\n");
}
const { createInterface } = await import("node:readline");
await import("fake-indexeddb/auto");
const sdk = await import("matrix-js-sdk");
const { OnlySignedDevicesIsolationMode, EventShieldColour, EventShieldReason } = await import(
    "matrix-js-sdk/lib/crypto-api/index.js"
);

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const nameOf = (all, value) =>
    value === null || value === undefined
        ? null
        : (Object.entries(all).find(([, known]) => known === value)?.[0] ?? String(value));
let client;
let account;
let storageKey; // what the account's secrets are encrypted with

async function show(event) {
    const room = event.getRoomId();
    if (!room || !event.getId()) return;
    const info = event.isEncrypted()
        ? await client.getCrypto().getEncryptionInfoForEvent(event)
        : null;
    say({
        event: {
            room_id: room,
            event_id: event.getId(),
            sender: event.getSender(),
            type: event.getType(),
            // What an edit replaces is in the clear, as the event came.
            content: event.getOriginalContent?.() ?? event.getContent(),
            origin_server_ts: event.getTs(),
            wire: event.getWireType(),
            failure: event.isDecryptionFailure() ? event.decryptionFailureReason : null,
            shield: info ? nameOf(EventShieldColour, info.shieldColour) : null,
            reason: info ? nameOf(EventShieldReason, info.shieldReason) : null,
        },
    });
}

const withPassword = async (makeRequest) => {
    try {
        return await makeRequest(null);
    } catch (error) {
        if (error.httpStatus !== 401) throw error;
        return await makeRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: account.userId },
            password: account.password,
            session: error.data.session,
        });
    }
};

const doing = {
    async start(given) {
        account = given;
        client = sdk.createClient({
            baseUrl: account.baseUrl,
            userId: account.userId,
            accessToken: account.accessToken,
            deviceId: account.deviceId,
            timelineSupport: true,
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], storageKey],
            },
        });
        await client.initRustCrypto({ useIndexedDB: false });
        client.getCrypto().setDeviceIsolationMode(new OnlySignedDevicesIsolationMode());
        if (account.identity) {
            await client.getCrypto().bootstrapCrossSigning({
                authUploadDeviceSigningKeys: withPassword,
            });
        }
        const shown = (event) => void show(event).catch((error) => console.error(error.stack));
        client.on("Room.timeline", shown);
        client.on("Event.decrypted", shown);
        const ready = new Promise((resolve) =>
            client.on("sync", (state) => state === "PREPARED" && resolve()),
        );
        await client.startClient({ initialSyncLimit: 100, threadSupport: false });
        await ready;
    },
    async send({ room, type, content }) {
        return (await client.sendEvent(room, type, content)).event_id;
    },
    async encrypts({ room }) {
        return await client.getCrypto().isEncryptionEnabledInRoom(room);
    },
    async device({ user, device }) {
        const status = await client.getCrypto().getDeviceVerificationStatus(user, device);
        return status && { signedByOwner: status.signedByOwner };
    },
    async trust({ user }) {
        await client.getCrypto().pinCurrentUserIdentity(user);
    },
    // Give the account another identity, and return the recovery key of it.
    async reset() {
        const crypto = client.getCrypto();
        const key = await crypto.createRecoveryKeyFromPassphrase();
        storageKey = key.privateKey;
        await crypto.bootstrapSecretStorage({
            createSecretStorageKey: async () => key,
            setupNewSecretStorage: true,
        });
        await crypto.bootstrapCrossSigning({
            setupNewCrossSigning: true,
            authUploadDeviceSigningKeys: withPassword,
        });
        return key.encodedPrivateKey;
    },
    async rotate({ room }) {
        await client.getCrypto().forceDiscardSession(room);
    },
    async showAll() {
        for (const room of client.getRooms()) {
            for (const event of room.getLiveTimeline().getEvents()) {
                if (event.isDecryptionFailure()) {
                    await event.attemptDecryption(client.getCrypto(), { isRetry: true });
                }
                await show(event);
            }
        }
    },
    async verify({ room, user }) {
        await client.getCrypto().requestVerificationDM(user, room);
    },
    async stop() {
        client?.stopClient();
        setImmediate(() => process.exit(0));
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const { id, do: what, ...given } = JSON.parse(line);
    doing[what](given).then(
        (result) => say({ id, result: result ?? null }),
        (error) => say({ id, error: String(error?.stack ?? error) }),
    );
}
process.exit(0);
