import json
import os

import pika
import psycopg2

database = psycopg2.connect("")


def on_message(channel, method, properties, body):
    with database, database.cursor() as cursor:
        cursor.execute("SELECT inbox.claim('billing', %s)", [properties.message_id])
        if cursor.fetchone()[0]:    # else it was handled before
            event = json.loads(body)
            cursor.execute("INSERT INTO invoice (order_id, item) VALUES (%s, %s)", [event["order"], event["item"]])
    channel.basic_ack(method.delivery_tag)    # after the commit, never before


channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
channel.basic_qos(prefetch_count=100)
channel.basic_consume("billing", on_message)
channel.start_consuming()
