"""Drives the page of a running daemon in Chromium, by the DevTools protocol: states, widths, schemes, keyboard, axe."""

import base64
import json
import subprocess
import sys
import time
import urllib.request

import websocket

CHROMIUM, AXE, OUT = sys.argv[1:4]
SIZES = [(360, 740), (1600, 1000)]


class Browser:
    def __init__(self):
        self.process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars",
             "--remote-allow-origins=*", "--user-data-dir=" + OUT + "/profile", "about:blank"],
            stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "DevTools listening on" in line:
                port = line.split("127.0.0.1:")[1].split("/")[0]
                break
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        page = next(one for one in pages if one["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60)
        self.number = 0
        self.faults = []
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(domain + ".enable")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            self.note(message)
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def note(self, message):
        """What the browser complains of: refused by the policy, an exception, a request to somewhere else."""
        method, of = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.faults.append("exception: " + json.dumps(of["exceptionDetails"])[:300])
        elif method == "Log.entryAdded" and of["entry"]["level"] == "error":
            self.faults.append("log: " + of["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = of["request"]["url"]
            if not url.startswith(("http://127.0.0.1", "data:", "about:")):
                self.faults.append("asked elsewhere: " + url)

    def run(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:500])
        return result["result"].get("value")

    def until(self, what, expression):
        end = time.monotonic() + 30
        while not self.run(expression):
            if time.monotonic() > end:
                raise SystemExit(f"{what} does not happen; the page says:\n" + self.run("document.body.innerText"))
            time.sleep(0.1)

    def shape(self, width, height, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme},
                                                          {"name": "prefers-reduced-motion", "value": "reduce"}])

    def press(self, key, code=None, text=None):
        for kind in ["keyDown", "keyUp"]:
            of = {"type": kind, "key": key, "code": code or key}
            if kind == "keyDown" and text:
                of["text"] = text
            if key == "Enter":
                of.update(windowsVirtualKeyCode=13)
                if kind == "keyDown":
                    of["text"] = "\r"
            if key == "Tab":
                of.update(windowsVirtualKeyCode=9)
            self.call("Input.dispatchKeyEvent", **of)

    def picture(self, path, height=None):
        clip = {}
        if height:
            width = self.run("innerWidth")
            clip = {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, **clip)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))


def check(browser, name, address, path, headline, picture=None):
    """One state at every width in both schemes: nothing scrolls sideways, axe finds nothing, nothing is complained of."""
    browser.call("Page.navigate", url=f"{address}{path}")
    browser.until(f"{name}: {headline!r}", f"document.querySelector('h1')?.textContent.includes({json.dumps(headline)})")
    for width, height in SIZES:
        for scheme in ["light", "dark"]:
            browser.shape(width, height, scheme)
            at = f"{name} at {width} px, {scheme}"
            wide = browser.run("document.documentElement.scrollWidth - innerWidth")
            if wide > 0:
                browser.picture(f"{OUT}/fault.png")
                raise SystemExit(f"{at}: {wide} px too wide: " + str(browser.run(
                    "[...document.querySelectorAll('*')].filter(e=>e.getBoundingClientRect().right>innerWidth+1)"
                    ".map(e=>e.tagName+'.'+e.className+': '+e.textContent.slice(0,60)).slice(0,8).join('\\n')")))
            if not browser.run("!!window.axe"):
                # As the debugger, past the policy of the page, which allows no such script.
                browser.run(open(AXE).read() + ";0")
            found = browser.run(
                "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => v.id + ': ' + v.help + ' '"
                " + v.nodes.map(n => n.target.join(' ')).slice(0, 3).join(', ')))")
            if found:
                raise SystemExit(f"{at}: axe finds\n  " + "\n  ".join(found))
            if picture and width == SIZES[-1][0] and scheme == "light":
                browser.shape(1100, 760, "light")
                browser.picture(picture, 760)
    if browser.faults:
        raise SystemExit(f"{name}: the browser complains\n  " + "\n  ".join(browser.faults))
    print(f"{name}: well")


def keyboard(browser, address, wanted):
    """To the search by a key, to what it finds by Tab and Enter, and back; the skip link is the first stop."""
    browser.call("Page.navigate", url=f"{address}/")
    browser.until("the page is drawn", "document.querySelector('#verdict p') !== null")
    browser.press("Tab")
    if browser.run("document.activeElement.className") != "skip":
        raise SystemExit("the first stop is not the skip link")
    browser.press("/", "Slash", "/")
    if browser.run("document.activeElement.id") != "q":
        raise SystemExit("/ does not lead to the search")
    for letter in wanted:
        browser.press(letter, None, letter)
    browser.press("Enter")
    browser.until("something is found", "/found$/.test(document.querySelector('h1').textContent)")
    for _ in range(40):
        browser.press("Tab")
        if browser.run("/^#job\\//.test(document.activeElement.getAttribute('href') || '')"):
            break
    else:
        raise SystemExit("the job is not reached by Tab")
    browser.press("Enter")
    browser.until("the job is shown", "location.hash.startsWith('#job/') && document.querySelector('.calls, .facts') !== null")
    print("keyboard: well")


def main():
    browser = Browser()
    try:
        for line in sys.stdin:
            step = json.loads(line)
            if step["do"] == "check":
                check(browser, step["name"], step["address"], step["path"], step["headline"], step.get("picture"))
            elif step["do"] == "keyboard":
                keyboard(browser, step["address"], step["wanted"])
            sys.stdout.write("next\n")
            sys.stdout.flush()
    finally:
        browser.process.kill()


main()
