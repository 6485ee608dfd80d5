"""A headless Chromium, driven by its DevTools protocol over a pipe."""
import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
# Characters that keys type, by the name of the key.
TYPED = {'Enter': '\r'}


class Browser:
    """
    One page.

    :param to_it: where commands go.
    :param from_it: where answers come from; both as of `--remote-debugging-pipe`.
    """

    def __init__(self, to_it: BinaryIO, from_it: BinaryIO) -> None:
        self._to, self._from = to_it, from_it
        self._numbers, self._session = itertools.count(1), dict[str, str]()
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        self._session = {'sessionId': session}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """:return: what a method of the protocol answers."""
        number = next(self._numbers)
        message = {'id': number, 'method': method, 'params': parameters} | self._session
        self._to.write(json.dumps(message).encode() + b'\0')
        self._to.flush()
        while True:
            answer = json.loads(self._message())
            if answer.get('id') == number:
                assert 'error' not in answer, answer['error']
                return answer['result']

    def _message(self) -> bytes:
        found = bytearray()
        while (byte := self._from.read(1)) != b'\0':
            assert byte, 'the browser has left'
            found += byte
        return bytes(found)

    def open(self, page: Path) -> None:
        """Open a file and wait until it is there."""
        self.call('Page.navigate', url=page.absolute().as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : "
                 "addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """:return: what an expression of JavaScript gives."""
        answer = self.call('Runtime.evaluate', expression=script, awaitPromise=True,
                           returnByValue=True)
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call('Input.insertText', text=text)

    def press(self, key: str, shift: bool = False) -> None:
        """Press a key."""
        code = {'Enter': 13, 'ArrowDown': 40, 'ArrowUp': 38}[key]
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, modifiers=8 * shift, text=TYPED.get(key, '')
                      if kind == 'keyDown' else '')

    def screenshot(self, path: Path, width: int, height: int) -> None:
        """Write what the window shows, as PNG."""
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        path.write_bytes(base64.b64decode(self.call('Page.captureScreenshot')['data']))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """
    Start a browser.

    :param folder: for its profile.
    """
    assert CHROMIUM
    commands, to_it = os.pipe()
    from_it, answers = os.pipe()
    # The browser wants its ends as descriptors 3 and 4; bash moves them there from higher ones.
    commands, answers = _moved(commands), _moved(answers)
    script = f'exec "$@" 3<&{commands} 4>&{answers}'
    process = subprocess.Popen(
        ['bash', '-c', script, 'bash', CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu',
         '--disable-dev-shm-usage', '--no-first-run', f'--user-data-dir={folder}',
         '--remote-debugging-pipe'],
        pass_fds=(commands, answers), stderr=subprocess.DEVNULL)
    os.close(commands)
    os.close(answers)
    try:
        with os.fdopen(to_it, 'wb') as to_file, os.fdopen(from_it, 'rb') as from_file:
            yield Browser(to_file, from_file)
    finally:
        process.terminate()
        process.wait(20)


def _moved(descriptor: int) -> int:
    """:return: the same pipe under a number from 10 on."""
    other = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return other
