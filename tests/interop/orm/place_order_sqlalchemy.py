import json
import sys

from sqlalchemy import BigInteger, Column, FetchedValue, Identity, Integer, Text, create_engine
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Session, declarative_base

Base = declarative_base()


class OutboxMessage(Base):
    __tablename__ = "message"
    __table_args__ = {"schema": "outbox"}
    __mapper_args__ = {"eager_defaults": True}    # message_id comes back by RETURNING

    id = Column(BigInteger, Identity(always=True), primary_key=True)
    message_id = Column(UUID(as_uuid=True), server_default=FetchedValue())
    exchange = Column(Text, nullable=False)
    routing_key = Column(Text, nullable=False)
    payload_json = Column(JSONB(none_as_null=True))    # a None of Python must not become the JSON null
    payload_text = Column(Text)
    ordering_key = Column(Text)
    headers = Column(JSONB(none_as_null=True))
    type = Column(Text)
    # Not mapped: xid and slot (the database's own), and what has a default that suits.


class Order(Base):
    __tablename__ = "orders"
    id = Column(Integer, Identity(always=True), primary_key=True)
    customer = Column(Text, nullable=False)
    item = Column(Text, nullable=False)


customer, item = sys.argv[1:]
# Who writes may read back id and message_id alone, so nothing is loaded again after the commit.
with Session(create_engine("postgresql+psycopg2://"), expire_on_commit=False) as session, session.begin():
    order = Order(customer=customer, item=item)
    session.add(order)
    session.flush()    # the order has its id now
    message = OutboxMessage(exchange="shop", routing_key="order.created", ordering_key=customer,
                            payload_json={"order": order.id, "item": item})
    session.add(message)
    session.add(OutboxMessage(exchange="shop", routing_key="customer.active", type="customer.active",
                              payload_text=json.dumps({"customer": customer})))
print(message.id, message.message_id)
