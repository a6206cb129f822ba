import json
import sys

import psycopg2

customer, item = sys.argv[1:]
connection = psycopg2.connect("")    # PGHOST, PGDATABASE, PGUSER, ...
with connection, connection.cursor() as cursor:    # COMMIT, or ROLLBACK after an exception
    cursor.execute("INSERT INTO orders (customer, item) VALUES (%s, %s) RETURNING id", [customer, item])
    event = json.dumps({"order": cursor.fetchone()[0], "item": item})
    cursor.execute("SELECT outbox.publish('shop', 'order.created', %s::json, ordering_key => %s)", [event, customer])
    # A plain INSERT, as an ORM makes it, does the same.
    cursor.execute("INSERT INTO outbox.message (exchange, routing_key, payload_json, type) VALUES (%s, %s, %s, %s)",
                   ["shop", "customer.active", json.dumps({"customer": customer}), "customer.active"])
