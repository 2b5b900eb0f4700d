"""A real Synapse and a real maubot, started for one test, one demo or one sandbox.

One module per subject; `stack.Stack` puts them together:

    process    one server process: started in a group of its own, always ended by its own ID
    ports      loopback ports that outgoing connections cannot take
    http       JSON over HTTP for Matrix and for maubot's management API
    synapse    the homeserver, and its access log as data
    proxy      faults between a client and the homeserver
    agent_server  a scripted agent platform, OpenAI-compatible and a webhook
    postgres   a throw-away PostgreSQL cluster
    litellm    LiteLLM's proxy with a mock model
    maubot     maubot, driven through the API its web UI uses
    database   what a plugin has stored, on SQLite or PostgreSQL
    user       a person with a Matrix client
    waiting    for what does not announce itself
    package    the `.mbp`: built, checked, given another version
    stack      all of it
    console    steps on a terminal
    browser    a real Chromium
    maubot_ui  maubot's web UI, used as an administrator does
    demo       `./build.sh demo`
    sandbox    `./build.sh sandbox`
    screenshots  `./build.sh screenshots`

Everything listens on loopback only and keeps its files in a directory that the caller names.
Nothing in here knows how the plugin works inside: it is for looking at it from the outside.
"""
