"""Prometheus text, read the way a test asks: `metrics.sum("istio_requests_total", reporter="source")`."""

import re

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One scrape."""

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = _SAMPLE.match(line)
            if match is None:
                raise ValueError(f"not a Prometheus sample: {line!r}")
            self.samples.append((match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))

    def all(self, name, **labels):
        """Samples of `name` whose labels include `labels`."""
        return [(found, value) for sample, found, value in self.samples
                if sample == name and all(found.get(key) == str(wanted) for key, wanted in labels.items())]

    def sum(self, name, **labels):
        """Their sum (0 when there is none)."""
        return sum(value for _, value in self.all(name, **labels))

    def value(self, name, **labels):
        """Their sum; a metric that is not there is an error, for zero would prove nothing."""
        found = self.all(name, **labels)
        if not found:
            raise LookupError(f"no sample of {name}{labels or ''}")
        return sum(value for _, value in found)

    def values(self, name, label):
        """The distinct values of one label."""
        return {found.get(label) for found, _ in self.all(name)}

    def names(self):
        """Every sample name."""
        return {name for name, _, _ in self.samples}
