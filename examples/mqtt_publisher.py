"""Answers to an MQTT broker: python examples/mqtt_publisher.py BUNDLE [--host H] [--port P] [--topic T] < a text a line

Needs the package paho-mqtt. Publishes to T/answers (QoS 1, JSON), T/health (retained, after each event of recovery) and
T/status (retained: "online", and "offline" as the last will, which the broker publishes when the device is gone).
"""

from __future__ import annotations

import argparse
import json
import sys

import paho.mqtt.client as mqtt

from edgekit.errors import NoAnswer
from edgekit.runtimes import Guarded

SENT_S = 10.0  # to wait for the broker's word that it has a message


def connect(host: str, port: int, topic: str) -> mqtt.Client:
    """A client whose thread keeps the connection, and makes it again when it is lost."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.will_set(f"{topic}/status", "offline", qos=1, retain=True)
    # After each connect, the first or a later one: the last will may have been published meanwhile.
    client.on_connect = lambda *_: client.publish(f"{topic}/status", "online", qos=1, retain=True)
    client.max_queued_messages_set(1000)  # while the broker is away; then the oldest wait and the newest are refused
    client.connect(host, port, keepalive=30)
    client.loop_start()
    return client


def answer(model: Guarded, text: str) -> dict[str, object]:
    """What to publish for ``text``."""
    try:
        found = model.classify(text)
    except NoAnswer as error:
        return {"text": text, "error": error.reason}
    return {"text": text, "label": found.labels[0], "score": round(float(found.scores[0]), 4)}


def main() -> None:
    """Publish an answer a line, then say goodbye."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--topic", default="edgekit")
    given = parser.parse_args()
    client = connect(given.host, given.port, given.topic)
    with Guarded(given.bundle, threads=1, deadline_ms=1000) as model:
        events = 0
        for line in sys.stdin:
            sent = client.publish(f"{given.topic}/answers", json.dumps(answer(model, line.strip())), qos=1)
            if len(model.events) != events:
                events = len(model.events)
                sent = client.publish(f"{given.topic}/health", json.dumps(model.health()), qos=1, retain=True)
            sent.wait_for_publish(SENT_S)
    client.publish(f"{given.topic}/status", "offline", qos=1, retain=True).wait_for_publish(SENT_S)
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
