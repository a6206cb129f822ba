DROP TRIGGER wake ON outbox.delayed;
DROP TRIGGER wake ON outbox.message;
DROP FUNCTION outbox.wake_delayed();
DROP FUNCTION outbox.wake();
SELECT outbox.record_migration(3, 'wake', false);
