BEGIN;
INSERT INTO orders (customer, item) VALUES (:'customer', :'item') RETURNING id AS "order" \gset
SELECT outbox.publish('shop', 'order.created', json_build_object('order', :order, 'item', :'item'),
	ordering_key => :'customer');
INSERT INTO outbox.message (exchange, routing_key, payload_json, type)
VALUES ('shop', 'customer.active', jsonb_build_object('customer', :'customer'), 'customer.active');
COMMIT;
