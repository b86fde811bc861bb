"""Writes ``docs/metrics.md`` from the code: ``python -m docs.metrics``."""

from pathlib import Path

from agent.api.metrics import FAMILIES, kind_of

PATH = Path(__file__).with_name("metrics.md")

_HEAD = """\
# Metrics

`GET /metrics` answers in the Prometheus text format. From the gateway's own machine it takes no token; from elsewhere
it takes the API token of a viewer (`enlace user token NAME`). Counters begin at 0 with each start; `increase()` and
`rate()` know that. What is not known has no sample: it is never 0.

```yaml
scrape_configs:
  - job_name: enlace
    authorization: {credentials_file: /etc/prometheus/enlace.token}
    static_configs: [{targets: ["gateway:8080"]}]
```

`config/grafana/enlace.json` is a Grafana dashboard over these; import it and choose the Prometheus data source.

What is written to the flash in a day, in bytes: `increase(enlace_store_written_bytes_total[1d])`. How fast the API is,
95 of 100 requests: `histogram_quantile(0.95, sum by (le) (rate(enlace_api_request_duration_seconds_bucket[5m])))`.

| name | kind | labels | what it says |
|---|---|---|---|
"""


def text() -> str:
    """The document."""
    rows = [f"| `{name}` | {kind_of(name)} | {labels} | {says} |\n" for name, (labels, says) in FAMILIES.items()]
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    PATH.write_text(text())
