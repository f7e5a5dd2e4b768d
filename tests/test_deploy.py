"""The files of `deploy/` pass their linters and say what docs/deployment.md promises of them.

What needs a program that is not installed is skipped by its name; nothing is started.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tests.tools import program, python_with

from arriero.config.load import load_config
from arriero.config.remote import RemoteModelConfig
from arriero.config.schema import LimitsConfig

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCUMENT = ROOT / "docs" / "deployment.md"
MOST_EXPOSED = 20
"""Bound on ten times the exposure that systemd computes for the unit."""
CHECK_COMPOSE = """
import sys, compose_spec
parsed = compose_spec.PyCompose.from_yaml(sys.argv[1])
parsed.validate()
print(*parsed.services)
"""
MODEL_PATH = "${MODEL_PATH:?the folder of the model}"


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


def run(*command: str) -> str:
    """Run a linter, which must be content; return what it says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(text("compose.yaml").replace(MODEL_PATH, "/srv/model"))
    return document


def unit() -> dict[str, list[str]]:
    """The settings of the unit's [Service] with all their values."""
    settings: dict[str, list[str]] = {}
    for line in text("arriero.service").partition("[Service]")[2].splitlines():
        if (key := line.partition("=")[0]) and "=" in line and not line.startswith("#"):
            settings.setdefault(key, []).append(line.partition("=")[2])
    return settings


def test_dockerfile() -> None:
    """hadolint finds nothing."""
    assert run(program("hadolint"), str(DEPLOY / "Dockerfile")) == ""


def test_image() -> None:
    """The image runs as a user without rights, tells whether it lives, and has pinned bases."""
    lines = text("Dockerfile").splitlines()

    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert all(re.fullmatch(r"[a-z]+:[0-9]\S+", base) for base in bases), bases
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = {name for names in copies for name in names}
    sent = {line[1:] for line in text("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    assert copied == sent == {name for name in sent if (ROOT / name).exists()}


def test_compose_file() -> None:
    """The compose file is what the specification of Compose allows."""
    said = run(
        python_with("compose_spec"), "-c", CHECK_COMPOSE, text("compose.yaml").replace(MODEL_PATH, "/srv/m")
    )

    assert said.split() == ["arriero", "vllm"]


def test_services() -> None:
    """Both services have pinned images, no rights, and their secrets as files; the sidecar cannot write."""
    document = compose()
    sidecar, vllm = document["services"]["arriero"], document["services"]["vllm"]

    for service in (sidecar, vllm):
        name, tag = service["image"].rsplit(":", 1)
        assert name
        assert tag != "latest"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service["secrets"]) <= set(document["secrets"])
        assert "KEY" not in "".join(service.get("environment", {}))
    assert sidecar["read_only"] is True
    assert sidecar["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in vllm
    assert vllm["networks"] == ["back"]
    assert document["networks"]["back"]["internal"] is True
    mounted = {volume.partition(":")[0] for volume in sidecar["volumes"] if volume[0] not in "./"}
    assert mounted == set(document["volumes"])


def test_the_sidecar_and_vllm_agree(tmp_path: Path) -> None:
    """The configuration of the container loads, and speaks of the vLLM that the compose file starts."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    (tmp_path / "caller_keys").write_text("caller\n")
    (tmp_path / "upstream_key").write_text("secret\n")
    config_text = (
        text("arriero.toml").replace("/run/secrets", str(tmp_path)).replace("/models", str(tmp_path))
    )
    (tmp_path / "arriero.toml").write_text(config_text)
    config = load_config(tmp_path / "arriero.toml", {})
    service = compose()["services"]["vllm"]
    options = dict(option.removeprefix("--").split("=") for option in service["command"])

    model = config.models["our-model"]
    assert isinstance(model, RemoteModelConfig)
    assert model.upstream.urls == (f"http://vllm:{options['port']}",)
    assert model.upstream.model == options["served-model-name"]
    assert model.max_context == int(options["max-model-len"])
    assert model.upstream.api_key == "secret"
    assert config.server.bind_address == "0.0.0.0:8080"
    assert config.pokt_model == "our-model"
    assert not config.auth.public


def test_unit(tmp_path: Path) -> None:
    """systemd takes the unit without a word, and finds little that it leaves open."""
    analyze = program("systemd-analyze", "Debian has it in systemd")
    file = tmp_path / "arriero.service"
    file.write_text(text("arriero.service").replace("/opt/arriero/bin/arriero", "/bin/true"))

    assert run(analyze, "verify", str(file)) == ""
    run(analyze, "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", str(file))


def test_unit_lets_the_engine_work() -> None:
    """The unit denies nothing that an engine process or the sandbox of documents needs."""
    settings = unit()

    assert settings["Type"] == ["notify"]
    assert settings["TimeoutStartSec"] == ["infinity"]  # weights may have to be fetched
    assert int(settings["TimeoutStopSec"][0]) > LimitsConfig().drain_s
    assert settings["DynamicUser"] == ["yes"]
    assert settings["ProtectSystem"] == ["strict"]
    assert "MemoryDenyWriteExecute" not in settings  # callbacks of cffi are written, then executed
    assert "ProcSubset" not in settings  # /proc/stat tells how busy the cores are
    assert "AF_UNIX" in settings["RestrictAddressFamilies"][0].split()  # the socket pair of an engine
    assert "landlock_restrict_self" in " ".join(settings["SystemCallFilter"])


def test_nginx_syntax(tmp_path: Path) -> None:
    """Every directive of the nginx file is known, stands where it may, and ends where it should."""
    crossplane = program("crossplane")
    main = tmp_path / "nginx.conf"
    main.write_text(f"events {{}}\nhttp {{ include {DEPLOY / 'nginx.conf'}; }}\n")

    errors = json.loads(run(crossplane, "parse", "--strict", str(main)))["errors"]

    # The parser takes the values of a `map` for directives.
    said = [error["error"] for error in errors]
    assert [error for error in said if not re.match('unknown directive "(default)?"', error)] == []


def test_nginx(tmp_path: Path) -> None:
    """nginx itself takes the file."""
    nginx = program("nginx", "Debian has it in nginx-light")
    openssl = program("openssl", "Debian has it in openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    run(
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "2", "-subj", "/CN=x", "-keyout", str(key), "-out", str(certificate)),
    )
    config = text("nginx.conf").replace("/var/log/nginx", str(tmp_path))
    config = re.sub(r"(ssl_certificate) \S+", rf"\1 {certificate};", config)
    config = re.sub(r"(ssl_certificate_key) \S+", rf"\1 {key};", config)
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{config}\n}}\n")

    run(nginx, "-t", "-q", "-p", str(tmp_path), "-c", str(main))


def test_nginx_streams() -> None:
    """What makes streams and sockets work, and keeps keys out of the log, stands in the file."""
    config = text("nginx.conf")

    for line in (
        "proxy_buffering off;",
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_next_upstream off;",
        "ssl_protocols TLSv1.2 TLSv1.3;",
    ):
        assert line in config, line
    (log_format,) = re.findall(r"log_format arriero (.*?);", config, re.DOTALL)
    assert not re.search(r"\$(request|args|query_string|request_uri)\b", log_format)


def test_every_file_is_explained() -> None:
    """docs/deployment.md leads to each file."""
    document = DOCUMENT.read_text()

    files = [path.name for path in DEPLOY.iterdir() if path.is_file()]
    assert [name for name in files if f"(../deploy/{name})" not in document] == []
