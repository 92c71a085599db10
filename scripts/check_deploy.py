"""What scripts/check_deploy.sh checks without other programs: everything under deploy/ parses, and says the same as the
source: metrics, labels, configuration keys, ports, times, files.

    check_deploy.py static WORK          writes WORK/dashboard-rules.yml for promtool
    check_deploy.py rendered FILE        a rendered kustomization
    check_deploy.py running URL...       /metrics of running processes against deploy/METRICS.md, both ways; TOKEN if they
                                         want one

Exit code 1 with one line per problem.
"""

import json
import os
import re
import sys
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
CONFIG = DEPLOY / "config/event_driven_sync.yml"
PROGRAMS = {"S": "interaction-server", "C": "sync-consumer", "K": "consistency-checker", "A": "standalone"}
OPS_KEYS = {
    "interaction-server": "http_addr",
    "sync-consumer": "consumer_http_addr",
    "consistency-checker": "checker_http_addr",
}
# Not ours; METRICS.md says where they come from.
EXTERNAL = {
    "up": set(),
    "ALERTS": {"alertstate", "alertname", "severity"},
    "rabbitmq_detailed_queue_messages_ready": {"queue", "vhost"},
    "rabbitmq_detailed_queue_consumers": {"queue", "vhost"},
}
# Put on by Prometheus.
TARGET_LABELS = {"job", "instance"}
# Keys that have no default and therefore no line in the configuration file.
OPTIONAL_KEYS = {
    "service.instance",
    "service.worker_threads",
    "service.access.tokens_file",
    "service.tls.cert_file",
    "service.tls.key_file",
    "service.tls.client_ca_file",
    "redis.ca_file",
    "rabbitmq.ca_file",
}
TOKENS = "INTERACTION__SERVICE__ACCESS__TOKENS_FILE"
# From SIGTERM: hard token, abandoning, and some air.
AFTER_DRAIN = 10

problems = []


def problem(text):
    problems.append(text)


def shown(path):
    path = Path(path)
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


# --- parsing


class Strict(yaml.SafeLoader):
    """A key given twice is an error; YAML says that, PyYAML does not."""


def mapping(loader, node):
    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    for key in sorted({key for key in keys if isinstance(key, str) and keys.count(key) > 1}):
        raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
    loader.flatten_mapping(node)
    return dict((loader.construct_object(k, deep=True), loader.construct_object(v, deep=True)) for k, v in node.value)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def documents(path):
    """Every document of a YAML or JSON file; none if it does not parse."""
    try:
        text = Path(path).read_text()
        found = [json.loads(text)] if str(path).endswith(".json") else list(yaml.load_all(text, Strict))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem(f"{shown(path)}: {' '.join(str(error).split())}")
        return []
    if not found or any(document is None for document in found):
        problem(f"{shown(path)}: empty")
    return [document for document in found if document is not None]


def parse_all():
    files = sorted(path for end in ("yml", "yaml", "json") for path in DEPLOY.rglob(f"*.{end}"))
    files = [path for path in files if DEPLOY / "secrets" not in path.parents]
    parsed = {path: documents(path) for path in files}
    print(f"parsed {len(files)} YAML and JSON files")
    return parsed


def walk(value):
    """Every map in a tree."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)?", str(text)).groups()
    return int(number) * {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


# --- metrics


class Metric:
    def __init__(self, kind, labels):
        self.kind, self.labels = kind, labels

    def __eq__(self, other):
        return (self.kind, self.labels) == (other.kind, other.labels)

    def __repr__(self):
        return f"{self.kind} with labels {sorted(self.labels)}"


def arguments(text, start):
    """The text from after an opening parenthesis to the closing one."""
    depth, quoted, position = 1, False, start
    while depth and position < len(text):
        char = text[position]
        if char == "\\" and quoted:
            position += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, ")": -1}.get(char, 0)
        position += 1
    return text[start : position - 1]


def metrics_of_source():
    found = {}
    for path in sorted(ROOT.glob("crates/*/src/**/*.rs")):
        text = path.read_text()
        for use in re.finditer(r"\b(counter|gauge|histogram)!\(", text):
            inside = arguments(text, use.end())
            name = re.match(r'\s*"([a-zA-Z_:][\w:]*)"', inside)
            if name is None:
                # The list of names to be shown from the start; each is used with its literal elsewhere.
                continue
            metric = Metric(use[1], set(re.findall(r'"(\w+)"\s*=>', inside)))
            if found.setdefault(name[1], metric) != metric:
                problem(f"{shown(path)}: {name[1]} is a {metric} here and a {found[name[1]]} elsewhere")
    if not found:
        problem("no metric found in crates/*/src")
    return found


def metrics_of_table():
    """name -> (Metric, letters of the programs that move it, shown from the start)"""
    found = {}
    for line in (DEPLOY / "METRICS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        name = re.fullmatch(r"`(\w+)`", cells[0])
        if name is None or len(cells) != 7:
            continue
        if name[1] in found:
            problem(f"deploy/METRICS.md: {name[1]} stands there twice")
        if not set(cells[5].split()) <= set(PROGRAMS) or cells[6] not in ("start", "use"):
            problem(f"deploy/METRICS.md: {name[1]}: the last two columns make no sense")
        found[name[1]] = (Metric(cells[1], set(re.findall(r"\w+", cells[2]))), cells[5].split(), cells[6] == "start")
    return found


def compare_table(source, table):
    for name in sorted(source.keys() - table.keys()):
        problem(f"deploy/METRICS.md: lacks {name}")
    for name in sorted(table.keys() - source.keys()):
        problem(f"deploy/METRICS.md: {name} is nowhere in crates/*/src")
    for name in sorted(source.keys() & table.keys()):
        if table[name][0] != source[name]:
            problem(f"deploy/METRICS.md: {name} is a {table[name][0]} there, in the source a {source[name]}")
    print(f"compared {len(table)} metrics of METRICS.md with {len(source)} of the source")


# --- PromQL

KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"}


def selectors(expression):
    """(name, [(label, value)]) of every series in it; syntax is promtool's work."""
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", expression)
    found = []
    for match in re.finditer(r"([a-zA-Z_:][\w:]*)\s*(\{(?:[^}\"]|\"(?:[^\"\\]|\\.)*\")*\})?(\s*\()?", blank(text)):
        name, call = match[1], match[3]
        if call or name in KEYWORDS:
            continue
        inside = text[match.start(2) : match.end(2)] if match[2] else ""
        found.append((name, re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"', inside)))
    return found


def blank(text):
    """Strings outside of selectors and durations would look like names."""
    text = re.sub(r"\[[^\]]*\]", lambda match: " " * len(match[0]), text)
    return re.sub(r"(?<![\w$])\d[\w.]*", lambda match: " " * len(match[0]), text)


def groupings(expression):
    return {name for inside in re.findall(r"\bby\s*\(([^)]*)\)", expression) for name in re.findall(r"\w+", inside)}


class Series:
    """What may stand in an expression."""

    def __init__(self, source, recorded, literals):
        self.labels = {name: labels | TARGET_LABELS for name, labels in EXTERNAL.items()}
        self.owner, self.literals = {}, literals
        for name in recorded:
            self.labels[name] = set()
        for name, metric in source.items():
            if metric.kind == "histogram":
                for end, more in (("_bucket", {"le"}), ("_sum", set()), ("_count", set())):
                    self.labels[name + end] = metric.labels | TARGET_LABELS | more
                    self.owner[name + end] = name
            else:
                self.labels[name] = metric.labels | TARGET_LABELS
                self.owner[name] = name

    def check(self, where, expression):
        """Says what is wrong, and gives back which of our metrics are used."""
        used, known, complete = set(), set(), True
        for name, matchers in selectors(expression):
            if name not in self.labels:
                problem(f"{where}: nothing exports {name}")
                complete = False
                continue
            used.add(self.owner.get(name, name))
            known |= self.labels[name]
            for label, value in matchers:
                if label not in self.labels[name]:
                    problem(f"{where}: {name} has no label {label}")
                elif name in self.owner and label not in TARGET_LABELS | {"le"}:
                    for word in value.split("|"):
                        if re.fullmatch(r"\w+", word) and word not in self.literals:
                            problem(f"{where}: {name} never has {label}={word}")
        for label in sorted(groupings(expression) - known) if complete else ():
            problem(f"{where}: nothing in it has a label {label}")
        return used


def substituted(expression):
    for variable, value in (("$__rate_interval", "1m"), ("$__interval", "1m"), ("$instance", ".*")):
        expression = expression.replace(variable, value)
    return expression


def dashboard_expressions(dashboard):
    """(where, expression)"""
    for panel in walk(dashboard.get("panels", [])):
        for target in panel.get("targets", []) if "gridPos" in panel else []:
            yield f"panel {panel['title']!r}", target["expr"]
    for annotation in dashboard.get("annotations", {}).get("list", []):
        yield f"annotation {annotation['name']!r}", annotation["expr"]
    for variable in dashboard.get("templating", {}).get("list", []):
        query = re.fullmatch(r"label_values\((.*),\s*(\w+)\)", str(variable.get("definition", "")))
        if query:
            yield f"variable {variable['name']!r}", f"count by ({query[2]}) ({query[1]})"


def check_metrics(parsed, work):
    source, table = metrics_of_source(), metrics_of_table()
    compare_table(source, table)
    literals = set()
    for path in ROOT.glob("crates/*/src/**/*.rs"):
        literals.update(re.findall(r'"(\w+)"', path.read_text()))

    rules = [rule for document in parsed[DEPLOY / "prometheus/alerts.yml"] for g in document["groups"] for rule in g["rules"]]
    series = Series(source, {rule["record"] for rule in rules if "record" in rule}, literals)
    for rule in rules:
        series.check(f"deploy/prometheus/alerts.yml: {rule.get('alert') or rule['record']}", rule["expr"])
    check_alerts([rule for rule in rules if "alert" in rule], parsed, series)
    print(f"checked the metrics and labels of {len(rules)} rules")

    charted, count, generated = set(), 0, []
    recorded = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        for dashboard in parsed[path]:
            ids = [panel["id"] for panel in walk(dashboard["panels"]) if "gridPos" in panel]
            if len(ids) != len(set(ids)):
                problem(f"{shown(path)}: two panels have the same id")
            for where, expression in dashboard_expressions(dashboard):
                expression, count = substituted(expression), count + 1
                for name in series.check(f"{shown(path)}: {where}", expression):
                    charted |= series.check(f"{shown(path)}: {name}", recorded[name]) if name in recorded else {name}
                generated.append({"record": f"dashboard:{count}", "expr": expression})
    for name in sorted(source.keys() - charted):
        problem(f"deploy/grafana/dashboards: no panel shows {name}")
    print(f"checked the metrics and labels of {count} dashboard queries, which show {len(source.keys() & charted)} metrics")
    rules_of_dashboard = {"groups": [{"name": "dashboard", "rules": generated}]}
    (work / "dashboard-rules.yml").write_text(yaml.safe_dump(rules_of_dashboard, width=1000))


def check_alerts(alerts, parsed, series):
    fired = set()
    for document in parsed.get(DEPLOY / "prometheus/alerts_test.yml", []):
        for test in document["tests"]:
            for given in test["input_series"]:
                series.check(f"deploy/prometheus/alerts_test.yml: {test['name']}", given["series"])
            fired |= {case["alertname"] for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    names = [alert["alert"] for alert in alerts]
    for alert in alerts:
        name, notes = alert["alert"], alert.get("annotations", {})
        if name not in fired:
            problem(f"deploy/prometheus/alerts_test.yml: no test in which {name} fires")
        if alert.get("labels", {}).get("severity") not in ("page", "ticket") or not {"summary", "description"} <= notes.keys():
            problem(f"deploy/prometheus/alerts.yml: {name} lacks severity, summary or description")
        if names.count(name) > 1:
            problem(f"deploy/prometheus/alerts.yml: {name} stands there twice")
    for name in sorted(fired - set(names)):
        problem(f"deploy/prometheus/alerts_test.yml: there is no alert {name}")


# --- configuration


def check_configuration(parsed):
    config = parsed[CONFIG][0]
    drain = seconds(config["service"]["drain_timeout"]) + AFTER_DRAIN
    files = [p for p in DEPLOY.rglob("*") if p.is_file() and DEPLOY / "secrets" not in p.parents and p.suffix != ".md"]
    variables = 0
    for path in files:
        for variable in sorted(set(re.findall(r"\bINTERACTION__[A-Z0-9_]+[A-Z0-9]", path.read_text()))):
            # Names of examples.
            if variable.startswith("INTERACTION__SECTION__"):
                continue
            variables += 1
            check_variable(path, config, variable)
    compose, prometheus = parsed[DEPLOY / "compose.yaml"][0], parsed[DEPLOY / "prometheus/prometheus.yml"][0]
    check_compose(compose, drain)
    jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    for name, key in OPS_KEYS.items():
        port = int(config["service"][key].rsplit(":", 1)[1])
        if [found["port"] for found in jobs[name]["dns_sd_configs"]] != [port]:
            problem(f"deploy/prometheus/prometheus.yml: {name} is not scraped at {port}")
        if not jobs[name].get("authorization", {}).get("credentials_file"):
            problem(f"deploy/prometheus/prometheus.yml: {name} is scraped without a token")
        if compose["services"][name]["environment"].get(f"INTERACTION__SERVICE__{key.upper()}") != f"0.0.0.0:{port}":
            problem(f"deploy/compose.yaml: ops HTTP of {name} is not at {port}")
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        text = path.read_text()
        stop = re.search(r"^TimeoutStopSec=(\w+)$", text, re.M)
        if stop is None or seconds(stop[1]) < drain:
            problem(f"{shown(path)}: TimeoutStopSec is less than {drain} s")
        for wanted in ("Restart=always", "RestartPreventExitStatus=64", "EnvironmentFile="):
            if wanted not in text:
                problem(f"{shown(path)}: lacks {wanted}")
        check_reach(shown(path), dict(re.findall(r"^Environment=(\w+)=(\S+)$", text, re.M)))
        if f"ExecStart=/usr/local/bin/{path.stem} " not in text or path.stem not in PROGRAMS.values():
            problem(f"{shown(path)}: does not start {path.stem}")
    print(f"checked {variables} configuration variables, ports, times and files in {len(files)} files")


def check_reach(where, environment):
    """Whoever listens beyond its container needs tokens, and would refuse otherwise."""
    if any(name.endswith("_ADDR") and str(value).startswith("0.0.0.0:") for name, value in environment.items()):
        if not environment.get(TOKENS):
            problem(f"{where}: listens for others without {TOKENS}")


def check_variable(path, config, variable):
    parts = [part.lower() for part in variable.split("__")[1:]]
    key, node = ".".join(parts), config
    if key in OPTIONAL_KEYS:
        return
    if parts[-1].endswith("_file"):
        parts[-1] = parts[-1].removesuffix("_file")
    for part in parts:
        node = node.get(part) if isinstance(node, dict) else None
    if node is None or isinstance(node, dict):
        problem(f"{shown(path)}: {variable}: there is no key {key}")


def check_compose(compose, drain):
    for name, service in compose["services"].items():
        where = f"deploy/compose.yaml: {name}"
        if "healthcheck" not in service and name != "otel-collector":
            problem(f"{where}: no healthcheck")
        if "build" in service:
            if seconds(service.get("stop_grace_period", "10s")) < drain:
                problem(f"{where}: stop_grace_period is less than {drain} s")
            check_reach(where, service.get("environment", {}))
            if service["command"][0] not in PROGRAMS.values():
                problem(f"{where}: there is no program {service['command'][0]}")
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy" and "healthcheck" not in compose["services"].get(other, {}):
                problem(f"{where}: {other} never becomes healthy")
        for volume in service.get("volumes", []):
            origin = volume.split(":")[0]
            if origin.startswith(".") and not (DEPLOY / origin).exists():
                problem(f"{where}: there is no {origin}")
            if not origin.startswith((".", "/")) and origin not in compose["volumes"]:
                problem(f"{where}: volume {origin} is not declared")
        for secret in service.get("secrets", []):
            if (secret if isinstance(secret, str) else secret["source"]) not in compose["secrets"]:
                problem(f"{where}: secret {secret} is not declared")
    made = set(re.findall(r"^put (\S+)", (DEPLOY / "make_secrets.sh").read_text(), re.M))
    for name, secret in compose["secrets"].items():
        if Path(secret["file"]).name not in made:
            problem(f"deploy/compose.yaml: make_secrets.sh does not make {secret['file']} ({name})")
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(?:--\S+ )*(\S+) \S+$", dockerfile, re.M):
        if not (ROOT / line).exists():
            problem(f"deploy/Dockerfile: there is no {line}")
    for program in PROGRAMS.values():
        if f"-p {program}" not in dockerfile or not (ROOT / "crates" / program / "src/main.rs").exists():
            problem(f"deploy/Dockerfile: does not build {program}")


# --- Kubernetes


def check_rendered(file):
    found = documents(file)
    of = lambda kind: {d["metadata"]["name"]: d for d in found if d["kind"] == kind}
    deployments, maps, drain = of("Deployment"), of("ConfigMap"), seconds(documents(CONFIG)[0]["service"]["drain_timeout"])
    if set(deployments) != set(OPS_KEYS):
        problem(f"{file}: Deployments are {sorted(deployments)}")
    selected = lambda labels, wanted: bool(wanted) and wanted.items() <= labels.items()
    for name, deployment in deployments.items():
        pod = deployment["spec"]["template"]["spec"]
        labels, container = deployment["spec"]["template"]["metadata"]["labels"], pod["containers"][0]
        say = lambda text: problem(f"{file}: {name}: {text}")
        if container["command"] != [name]:
            say(f"starts {container['command']}")
        if not selected(labels, deployment["spec"]["selector"]["matchLabels"]):
            say("does not select its own pods")
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        if pod["terminationGracePeriodSeconds"] < drain + int(hook[1]) + AFTER_DRAIN:
            say("terminationGracePeriodSeconds is too short")
        if not pod["securityContext"].get("runAsNonRoot") or not container["securityContext"].get("readOnlyRootFilesystem"):
            say("runs as root, or may write")
        if container["livenessProbe"]["httpGet"]["path"] != "/health/live" or container["readinessProbe"]["httpGet"]["path"] != "/health":
            say("probes the wrong paths")
        if not container["resources"].get("requests") or not container["resources"].get("limits"):
            say("has no resources")
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        environment = {variable["name"]: variable for variable in container["env"]}
        address = environment.get(f"INTERACTION__SERVICE__{OPS_KEYS.get(name, '').upper()}", {}).get("value", "")
        if not address.endswith(f":{ports['ops']}"):
            say(f"ops HTTP listens at {address or 'loopback'}, not at {ports['ops']}")
        check_reach(f"{file}: {name}", {variable: how.get("value") for variable, how in environment.items()})
        for variable in environment.values():
            if "value" in variable and re.search(r"(URL|PASSWORD|TOKEN|SECRET)$", variable["name"]):
                say(f"{variable['name']} holds a secret in plain text")
        for volume in pod["volumes"]:
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                say(f"there is no ConfigMap {volume['configMap']['name']}")
        budgets = of("PodDisruptionBudget").values()
        if not any(selected(labels, budget["spec"]["selector"]["matchLabels"]) for budget in budgets):
            say("has no PodDisruptionBudget")
    for kind, spec in (("HorizontalPodAutoscaler", "scaleTargetRef"), ("ScaledObject", "scaleTargetRef")):
        for name, scaler in of(kind).items():
            target = deployments.get(scaler["spec"][spec]["name"])
            if target is None or "replicas" in target["spec"]:
                problem(f"{file}: {kind} {name}: its Deployment is missing or has replicas of its own")
    for scaler in of("ScaledObject").values():
        for trigger in scaler["spec"]["triggers"]:
            queue = f"{documents(CONFIG)[0]['rabbitmq']['prefix']}.likes"
            if trigger["metadata"]["queueName"] != queue:
                problem(f"{file}: ScaledObject: the queue is called {queue}")
            if trigger["authenticationRef"]["name"] not in of("TriggerAuthentication"):
                problem(f"{file}: ScaledObject: there is no such TriggerAuthentication")
    for name, service in of("Service").items():
        if not any(selected(d["spec"]["template"]["metadata"]["labels"], service["spec"]["selector"]) for d in deployments.values()):
            problem(f"{file}: Service {name} selects nothing")
    if maps and all(CONFIG.read_text() not in m["data"].values() for m in maps.values()):
        problem(f"{file}: the ConfigMap is not the configuration file")
    print(f"checked {len(found)} rendered Kubernetes objects")


# --- running processes


def get(url):
    token = os.environ.get("TOKEN")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def check_running(urls):
    table = metrics_of_table()
    letters = {name: letter for letter, name in PROGRAMS.items()}
    for url in urls:
        url = (url if "://" in url else f"http://{url}").removesuffix("/metrics").rstrip("/")
        service, text = json.loads(get(f"{url}/health"))["service"], get(f"{url}/metrics")
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        labels = {}
        for name, inside in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$", text, re.M):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            name = base if kinds.get(base) in ("histogram", "summary") else name
            labels.setdefault(name, set()).update(set(re.findall(r'(\w+)="', inside)) - {"le"})
        for name in sorted(labels):
            if name not in table:
                problem(f"{url}: {service} exports {name}, which deploy/METRICS.md lacks")
            elif Metric(kinds.get(name), labels[name]) != table[name][0]:
                problem(f"{url}: {name} is a {Metric(kinds.get(name), labels[name])}, in deploy/METRICS.md a {table[name][0]}")
        for name, (_, by, from_start) in sorted(table.items()):
            if from_start and letters.get(service) in by and name not in labels:
                problem(f"{url}: {service} does not export {name}")
        print(f"compared {len(labels)} metrics of {service} at {url}")


def main(arguments):
    command, *rest = arguments
    if command == "static":
        parsed = parse_all()
        if not problems:
            check_metrics(parsed, Path(rest[0]))
            check_configuration(parsed)
    elif command == "rendered":
        check_rendered(rest[0])
    elif command == "running":
        check_running(rest)
    else:
        raise SystemExit(__doc__)
    for text in dict.fromkeys(problems):
        print(f"problem: {text}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["help"]))
