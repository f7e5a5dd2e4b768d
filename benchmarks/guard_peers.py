"""The proxies that the guard's benchmark compares: how each is started, and what it is asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.guard_upstream import NAME
from benchmarks.server import free_port

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

PUBLIC = "pocket_network"
CORE = "0"


@dataclass(frozen=True)
class Peer:
    """One proxy. `model`: what it is asked for; one that rewrites nothing needs the upstream's own name."""

    name: str
    command: list[str]
    port: int
    model: str = PUBLIC
    rewrites: bool = True
    is_slow: bool = False
    core: str = CORE
    env: dict[str, str] = field(default_factory=dict)


def peers(options: argparse.Namespace, upstream_port: int) -> Iterator[Peer]:
    """Give the proxies that can be had, each with a port of its own."""
    for make in (_nginx, _direct, _asgi, _litellm):
        peer = make(options, upstream_port)
        if peer is not None and (not options.only or peer.name in options.only):
            yield peer


def _direct(options: argparse.Namespace, upstream_port: int) -> Peer:
    port = free_port()
    return Peer("arriero", _guard("direct", port, upstream_port), port)


def _asgi(options: argparse.Namespace, upstream_port: int) -> Peer:
    port = free_port()
    return Peer("arriero-asgi", _guard("asgi", port, upstream_port), port)


def _guard(form: str, port: int, upstream_port: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.guard_server", form, str(port), str(upstream_port)]


def _nginx(options: argparse.Namespace, upstream_port: int) -> Peer | None:
    if options.nginx is None:
        return None
    port, folder = free_port(), options.out.resolve() / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(_nginx_conf(folder, port, upstream_port))
    command = [options.nginx, "-p", f"{folder}/", "-c", "nginx.conf", "-e", f"{folder}/error.log"]
    return Peer("nginx", command, port, model=NAME, rewrites=False)


def _nginx_conf(folder: Path, port: int, upstream_port: int) -> str:
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
{temporary}
  access_log {folder}/access.log combined buffer=64k flush=1s;
  keepalive_requests 10000000;
  upstream backend {{ server 127.0.0.1:{upstream_port}; keepalive 1024; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    client_max_body_size 10m;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 2h;
    }}
  }}
}}
"""


def _litellm(options: argparse.Namespace, upstream_port: int) -> Peer | None:
    if options.litellm is None:
        return None
    port, config = free_port(), options.out.resolve() / "litellm.yaml"
    config.write_text(f"""
model_list:
  - model_name: {PUBLIC}
    litellm_params:
      model: hosted_vllm/{NAME}
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: sk-upstream-0123456789
litellm_settings:
  disable_hf_tokenizer_download: true
  telemetry: false
general_settings:
  master_key: sk-benchmark-0123456789
""")
    command = [options.litellm, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    env = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    return Peer("litellm", command, port, is_slow=True, env=env)
