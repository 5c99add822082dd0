"""A browser in front of the console, and what it complains of."""

import os
import shutil
from importlib.resources import files
from pathlib import Path

from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.system import System

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PICTURES = Path(os.environ["SIGNALBOX_TEST_PICTURES"]) if "SIGNALBOX_TEST_PICTURES" in os.environ else None
"""Folder for a picture of every page that is looked at."""
HARMLESS = "Password forms should have"
LOOKS = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]
"""Colour schemes and widths in pixels in which pages are looked at."""


class Console(System):
    """The system with a key of each kind, and the texts of a few jobs that it has answered."""

    def __init__(self, supervisor, client, data):
        super().__init__(supervisor, client)
        self.data = data
        self.url = supervisor.api_url

    def key(self, *scopes, tenant="default", name=""):
        """The token of a new key."""
        return api_keys.create(self.redis, frozenset(scopes or {Scope.ADMIN}), tenant_id=tenant, name=name)[1]


class Visit:
    """A browser window that has signed in, and what the browser complained of."""

    def __init__(self, console, context):
        self.console, self.page, self.complaints = console, context.new_page(), []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))

    def _note(self, message):
        if message.type in ("error", "warning") and HARMLESS not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def sign_in(self, token):
        self.page.goto(f"{self.console.url}/console/sign-in")
        self.page.fill("main input[name=key]", token)
        self.page.click("main button")
        self.page.wait_for_selector("header")

    def open(self, path):
        """Open a page under `/console` and return the browser's page."""
        self.page.goto(f"{self.console.url}/console/{path}")
        return self.page

    def picture(self, name):
        """Keep a picture where somebody asked for them."""
        if PICTURES:
            PICTURES.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    def serious(self):
        """The serious and critical findings of axe-core on the open page."""
        # The page's own policy forbids inline scripts: the debugger's evaluation is none.
        self.page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            f"{one['id']}: {node['html'][:160]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
