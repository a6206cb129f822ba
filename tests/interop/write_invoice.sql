WITH event AS (SELECT :'body'::json AS body WHERE inbox.claim('billing', :'message_id'))
INSERT INTO invoice (order_id, item) SELECT (body->>'order')::integer, body->>'item' FROM event;
