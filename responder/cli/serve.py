"""`responder serve`."""

from __future__ import annotations

import os

import typer

from responder.cli.options import Config, config_file


def command(config: Config = None) -> None:
    """Answer alerts until stopped.

    Without a configuration: on 127.0.0.1:9099, SQLite in the state directory, messages on the console, and no runbooks,
    so that every alert is told and escalated. SIGHUP reads configuration and rules again; SIGTERM stops in order.
    """
    from responder.app import CATALOGUE, run
    from responder.config import load_config

    raise typer.Exit(run(load_config(config_file(config), CATALOGUE, os.environ)))
