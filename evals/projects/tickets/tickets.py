"""Support tickets with the queue each belongs to, and how many a classifier gets right."""

from pathlib import Path

QUEUES = ("billing", "delivery", "account", "technical", "other")
PATH = Path(__file__).with_name("tickets.tsv")
TRAIN_ROWS = 4_500


def load():
    """Give (training rows, validation rows), each row as (text, queue)."""
    rows = []
    for line in PATH.read_text(encoding="utf-8").splitlines():
        queue, text = line.split("\t")
        rows.append((text.replace("\\n", "\n"), queue))
    return rows[:TRAIN_ROWS], rows[TRAIN_ROWS:]


def accuracy(predict, rows):
    """Share of tickets that land in the right queue."""
    return sum(predict(text) == queue for text, queue in rows) / len(rows)


def show_misread(predict, rows, limit=12):
    """Print the first tickets that went to a wrong queue."""
    wrong = [(text, queue) for text, queue in rows if predict(text) != queue]
    print(f"misread: {len(wrong)} of {len(rows)}")
    for text, queue in wrong[:limit]:
        print(f"{predict(text)} instead of {queue} | {text}")
