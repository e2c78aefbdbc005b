import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from compute_service.settings import ComputeSettings
from contracts import __version__
from contracts.settings import ServiceSettings
from gateway.settings import GatewaySettings
from results_service.notifier.settings import NotifierSettings
from results_service.notifier.wakeup import STOP_SECONDS
from results_service.settings import ResultsSettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "compute": ComputeSettings,
    "results": ResultsSettings,
    "notifier": NotifierSettings,
}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/Dockerfile"))
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?:(:[?-])([^}]*))?\}")
SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY")


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Its instructions and their arguments, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / dockerfile).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line]


def final_stage(dockerfile: str) -> list[tuple[str, str]]:
    """What the image itself is made with."""
    found = instructions(dockerfile)
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]


def copied(dockerfile: str) -> dict[str, str]:
    """What comes from the repository into the image: source to target."""
    pairs = [rest.split() for word, rest in final_stage(dockerfile) if word == "COPY" and "--from" not in rest]
    assert all(len(pair) == 2 for pair in pairs)
    return dict(pairs)


def command(name: str) -> list[str]:
    """What the service *name* runs: its own command, or its image's."""
    own = SERVICES[name].get("command")
    if own is not None:
        assert isinstance(own, list)
        return own
    (line,) = (rest for word, rest in final_stage(SERVICES[name]["build"]["dockerfile"]) if word == "CMD")
    found = yaml.safe_load(line)
    assert isinstance(found, list), "the exec form: signals reach the service"
    return found


def filled(value: str, given: dict[str, str]) -> str:
    """*value* with its variables filled in, as Compose does it."""

    def fill(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        return given[name] if kind != ":-" else given.get(name) or word

    return VARIABLE.sub(fill, str(value))


def example() -> dict[str, str]:
    """The variables of .env.example, commented out or not."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_our_services_are_all_there() -> None:
    """The four services are built here, each from a Dockerfile that exists."""
    built = {name: service["build"]["dockerfile"] for name, service in SERVICES.items() if "build" in service}
    assert built.keys() == OURS.keys()
    assert set(built.values()) == set(FILES)
    assert all(SERVICES[name]["build"]["context"] == "." for name in built)


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable of a service is a field of its settings class, which accepts the value."""
    fields = {field.upper() for field in OURS[name].model_fields}
    environment = SERVICES[name]["environment"]
    assert environment.keys() <= fields
    for variable in fields:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, filled(value, {"RABBITMQ_PASSWORD": "abc123"}))
    settings = OURS[name]()
    assert settings.amqp_uri.get_secret_value() == "amqp://coatcheck:abc123@rabbitmq:5672/%2F"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback(name: str) -> None:
    """What is published can be reached from this machine only."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", filled(port, {})), port
    assert SERVICES[name].get("network_mode") is None


def test_ports_lead_to_who_listens() -> None:
    """The gateway's port is the one it listens on by default, and it listens beyond the container's loopback."""
    (port,) = SERVICES["gateway"]["ports"]
    assert int(port.rpartition(":")[2]) == GatewaySettings.model_fields["port"].default
    assert "PORT" not in SERVICES["gateway"]["environment"]
    assert SERVICES["gateway"]["environment"]["LISTEN_HOST"] == "0.0.0.0"  # noqa: S104 -- inside the container


def test_no_password_in_the_tree() -> None:
    """Passwords come from the environment, without a default, and the example leaves them empty."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            uri = re.match(r"\w+://[^/@:]*:([^@]*)@", str(value))
            secret = uri[1] if uri else value if SECRET.search(variable) else None
            assert secret is None or re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", secret), (name, variable)
    for dockerfile in FILES:
        assert not [rest for word, rest in instructions(dockerfile) if word in {"ENV", "ARG"} and SECRET.search(rest)]
    assert not [variable for variable, value in example().items() if value and SECRET.search(variable)]
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_example_names_every_variable() -> None:
    """.env.example has the variables of docker-compose.yml, all of them, with the same defaults."""
    used = {name: word if kind == ":-" else "" for name, kind, word in VARIABLE.findall(str(SERVICES))}
    assert used == example()


def test_who_is_waited_for_says_when() -> None:
    """A condition `service_healthy` is put to a service that has a health check."""
    waits = 0
    for service in SERVICES.values():
        for other, rule in service.get("depends_on", {}).items():
            waits += 1
            assert rule["condition"] == "service_started" or "healthcheck" in SERVICES[other], other
    assert waits


def test_compute_can_be_scaled() -> None:
    """Nothing of the compute service can be there once only."""
    assert not SERVICES["compute"].keys() & {"container_name", "hostname", "ports", "volumes"}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """An image from elsewhere has a version that is not `latest`."""
    image = SERVICES[name].get("image")
    assert image is None or re.search(r":v?\d", image), image


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_named(name: str) -> None:
    """Data are in volumes that have a name, so they outlive their container."""
    assert {volume.partition(":")[0] for volume in SERVICES[name].get("volumes", [])} <= COMPOSE["volumes"].keys()


def test_time_to_stop_fits() -> None:
    """Nobody is killed while it drains as its settings let it."""
    grace = {name: int(SERVICES[name]["stop_grace_period"].removesuffix("s")) for name in OURS}
    compute, gateway = (
        {field: info.default for field, info in OURS[name].model_fields.items()} for name in ("compute", "gateway")
    )
    assert grace["compute"] > compute["drain_seconds"] + compute["hand_back_seconds"]
    assert grace["gateway"] > gateway["graceful_timeout_seconds"]
    assert grace["notifier"] > STOP_SECONDS


@pytest.mark.parametrize("dockerfile", FILES)
def test_base_is_pinned(dockerfile: str) -> None:
    """Every stage begins with the same image: Python's by its version, unless the build names another."""
    found = instructions(dockerfile)
    assert found[0] == ("ARG", "PYTHON_IMAGE=python:3.12-slim")
    assert [rest.split()[0] for word, rest in found if word == "FROM"] == ["${PYTHON_IMAGE}"] * 2


@pytest.mark.parametrize("dockerfile", FILES)
def test_dependencies_are_hashed(dockerfile: str) -> None:
    """What is installed is a lock file that exists, with hashes, and from nowhere in particular."""
    ((source, target),) = [rest.split() for word, rest in instructions(dockerfile) if word == "COPY"][:1]
    assert (ROOT / source).is_file()
    (install,) = (rest for _, rest in instructions(dockerfile) if "pip " in rest)
    assert f"--require-hashes -r {target}" in install
    assert "index" not in (ROOT / dockerfile).read_text()


@pytest.mark.parametrize("dockerfile", FILES)
def test_runs_as_nobody_special(dockerfile: str) -> None:
    """The last user is by number, not root, and set before anything is run."""
    words = [word for word, _ in final_stage(dockerfile)]
    users = [rest for word, rest in final_stage(dockerfile) if word == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
    assert words.index("USER") < words.index("CMD")


@pytest.mark.parametrize("dockerfile", FILES)
def test_image_has_its_packages_only(dockerfile: str) -> None:
    """An image has contracts and its own package, which exist and may enter the build."""
    package = dockerfile.partition("/")[0]
    assert copied(dockerfile) == {"contracts": "contracts", package: package}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"contracts", package, "requirements"} <= let_in
    assert all((ROOT / name).is_dir() for name in let_in)


@pytest.mark.parametrize("name", OURS)
def test_only_tmp_can_be_written(name: str) -> None:
    """A service of ours may do nothing that an ordinary process may not, and writes nowhere but in /tmp."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 -- of the container
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "user", "volumes"} & service.keys()


def test_the_replica_set_is_made_on_one_line() -> None:
    """What mongosh is given is JavaScript after YAML has joined its lines, and names the member as Compose does."""
    script = SERVICES["mongodb"]["healthcheck"]["test"][-1]
    assert "\n" not in script
    assert "; if (" in script
    assert f'host: "{SERVICES["mongodb"]["hostname"]}:27017"' in script
    assert SERVICES["results"]["environment"]["MONGODB_URI"] == "mongodb://mongodb:27017/?replicaSet=rs0"
    assert SERVICES["mongodb"]["command"][:2] == ["--replSet", "rs0"]


@pytest.mark.parametrize("name", OURS)
def test_commands_refer_to_what_is_there(name: str) -> None:
    """Configuration and module of a command line exist, and are in the image."""
    line = command(name)
    program, inside = line[0], copied(SERVICES[name]["build"]["dockerfile"])
    assert program == ("gunicorn" if name == "gateway" else "nameko")
    config = line[line.index("--config") + 1]
    modules = [] if name == "gateway" else [line[-1].replace(".", "/") + ".py"]
    for path in [config, *modules]:
        assert (ROOT / path).is_file(), path
        assert path.partition("/")[0] in inside, path


@pytest.mark.parametrize("dockerfile", FILES)
def test_label_has_our_version(dockerfile: str) -> None:
    """The image says the version that the code in it has."""
    assert f'org.opencontainers.image.version="{__version__}"' in (ROOT / dockerfile).read_text()
