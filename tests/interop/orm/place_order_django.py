import json
import os
import sys
import uuid

import django
from django.conf import settings
from django.db import models, transaction

settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"]}})
django.setup()


class OutboxMessage(models.Model):
    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(default=uuid.uuid4)    # Django does not read back what the database makes
    exchange = models.TextField()
    routing_key = models.TextField()
    payload_json = models.JSONField(null=True)    # leave it out, or None: both are NULL
    payload_text = models.TextField(null=True)
    ordering_key = models.TextField(null=True)
    headers = models.JSONField(null=True)
    type = models.TextField(null=True)
    # Not mapped: xid and slot (the database's own), and what has a default in the database, which an
    # INSERT of Django, naming every mapped column, would overwrite with NULL.

    class Meta:
        app_label = "shop"
        managed = False    # no migrations
        db_table = '"outbox"."message"'    # the quotes name a schema


class Order(models.Model):
    customer = models.TextField()
    item = models.TextField()

    class Meta:
        app_label = "shop"
        managed = False
        db_table = "orders"


customer, item = sys.argv[1:]
with transaction.atomic():
    order = Order.objects.create(customer=customer, item=item)
    message = OutboxMessage.objects.create(exchange="shop", routing_key="order.created", ordering_key=customer,
                                           payload_json={"order": order.pk, "item": item})
    OutboxMessage.objects.create(exchange="shop", routing_key="customer.active", type="customer.active",
                                 payload_text=json.dumps({"customer": customer}))
print(message.pk, message.message_id)
