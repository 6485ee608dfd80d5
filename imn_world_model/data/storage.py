"""What the readers of storage files hand on."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoredMessage:
    """
    A message as its file holds it.

    :param topic: its topic.
    :param kind: its type, as the file spells it.
    :param encoding: of the payload; ``cdr`` from ROS 2.
    :param stamp: time of recording, ns.
    :param payload: bytes.
    :param schema: definition of the type, where the file holds it.
    """

    topic: str
    kind: str
    encoding: str
    stamp: int
    payload: bytes
    schema: bytes = b''


def printable(text: str) -> str:
    """:return: a name in which a flipped bit cannot make a new line of a message to the user."""
    if text.isprintable():
        return text
    return ''.join(letter if letter.isprintable() else '\N{REPLACEMENT CHARACTER}'
                   for letter in text)


@dataclass
class StorageReport:
    """
    What a file holds beyond the messages that could be read.

    :param problems: what could not be read, a line each.
    :param topics: every topic seen -> its type.
    :param lost: topic -> messages recorded by the file's own account, less those read; of the
        topic ``?`` where that is not known. Below 0 where some came under another topic's number.
    :param whole: whether the file could be read to its end, so that it holds all it ever did.
    """

    problems: list[str] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    whole: bool = True

    def fault(self, problem: str) -> None:
        """Note something that makes the file less than whole."""
        self.problems.append(problem)
        self.whole = False
