#!/usr/bin/env python3
"""A simple program for comparison: it reads pages of 400 into memory, writes
one JSON file at the end, and inserts with one INSERT per row.

    baseline.py extract FILE           from FALCON_BASE_URL into FILE
    baseline.py insert FILE URL TABLE  FILE into Postgres; needs psycopg2
"""
import json
import os
import sys
import urllib.parse
import urllib.request
import uuid


def call(url, data=None, headers=None):
    request = urllib.request.Request(url, data, headers or {})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def extract(path):
    base = os.environ["FALCON_BASE_URL"]
    form = {"client_id": os.environ["FALCON_CLIENT_ID"], "client_secret": os.environ["FALCON_SECRET"]}
    token = call(base + "/oauth2/token", urllib.parse.urlencode(form).encode())["access_token"]
    query = {"filter": "cve.id:!['']+last_seen_within:'14'", "limit": 400, "facet": ["cve", "host_info", "remediation"]}
    records, upload = [], str(uuid.uuid4())
    while True:
        url = base + "/spotlight/combined/vulnerabilities/v1?" + urllib.parse.urlencode(query, doseq=True)
        page = call(url, headers={"Authorization": "Bearer " + token})
        for record in page["resources"]:
            record["_tenancy"], record["_upload_id"] = "default", upload
            records.append(record)
        query["after"] = page["meta"]["pagination"].get("after")
        if not query["after"]:
            break
    with open(path, "w") as file:
        json.dump(records, file)


def insert(path, url, table):
    import psycopg2

    with open(path) as file:
        records = json.load(file)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        for record in records:
            cursor.execute(f"INSERT INTO {table} VALUES (now(), %s, %s)", (record["_tenancy"], json.dumps(record)))


if __name__ == "__main__":
    {"extract": extract, "insert": insert}[sys.argv[1]](*sys.argv[2:])
