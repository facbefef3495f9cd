"""Compares what a gateway answers with docs/openapi.yaml. Only the words that the file uses are understood, and any
other one is an error: a schema that is not checked would be a promise that nobody keeps."""
import os
import re

import yaml

FILE = os.path.join(os.path.dirname(__file__), "../../docs/openapi.yaml")
KEYWORDS = {"type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "minimum", "maximum",
            "minLength", "maxLength", "minItems", "maxItems", "description", "$ref", "example"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


class Api:
    def __init__(self):
        with open(FILE) as f:
            self.document = yaml.safe_load(f)
        self.operations = {(method.upper(), path): operation for path, methods in self.document["paths"].items()
                           for method, operation in methods.items() if method != "parameters"}
        self.seen = set()  # (method, path, status) that was answered and fitted

    def resolve(self, node):
        while "$ref" in node:
            at = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            node = at
        return node

    def find(self, method, path):
        """The operation's (method, path template) for a request, None when it is not in the file."""
        path = path.split("?")[0]
        for known, template in self.operations:
            pattern = re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template))
            if known == method and re.fullmatch(pattern, path):
                return known, template
        return None

    def errors(self, value, schema, where="body"):
        schema = self.resolve(schema)
        unknown = set(schema) - KEYWORDS
        if unknown:
            raise AssertionError(f"the checker does not know {unknown} at {where}")
        kind = schema.get("type")
        if kind and (not isinstance(value, TYPES[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
            return [f"{where}: {value!r} is no {kind}"]
        found = []
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{where}: {value!r} is none of {schema['enum']}")
        if isinstance(value, str):
            if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
                found.append(f"{where}: {value!r} is not {schema['pattern']}")
            found += self.bounds(len(value.encode()), schema, "minLength", "maxLength", where)
        if kind in ("integer", "number"):
            found += self.bounds(value, schema, "minimum", "maximum", where)
        if isinstance(value, list):
            found += self.bounds(len(value), schema, "minItems", "maxItems", where)
            for i, item in enumerate(value):
                found += self.errors(item, schema.get("items", {}), f"{where}[{i}]")
        if isinstance(value, dict):
            found += self.object_errors(value, schema, where)
        return found

    @staticmethod
    def bounds(number, schema, low, high, where):
        bad = number < schema.get(low, number) or number > schema.get(high, number)
        return [f"{where}: {number} is outside of {schema.get(low)} to {schema.get(high)}"] if bad else []

    def object_errors(self, value, schema, where):
        properties = schema.get("properties", {})
        found = [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            if name in properties:
                found += self.errors(item, properties[name], f"{where}.{name}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{where}: {name} is not in the file")
        return found

    def check(self, method, path, status, headers, body):
        """Fails unless the file allows this answer. BODY is the parsed JSON, None when there is none."""
        operation = self.find(method, path)
        if not operation:
            assert status in (404, 405, 411, 413, 429), f"{method} {path} is not in the file and answers {status}"
            return
        responses = self.operations[operation]["responses"]
        response = responses.get(str(status))
        assert response, f"{method} {path} answers {status}, which the file does not name: {body}"
        content = self.resolve(response).get("content")
        assert (body is not None) == bool(content), f"{method} {path} {status}: body {body!r}, the file says {content}"
        if content:
            assert headers.get("content-type") == "application/json", headers
            errors = self.errors(body, content["application/json"]["schema"])
            assert not errors, f"{method} {path} {status}: {errors}"
        self.seen.add((*operation, status))
