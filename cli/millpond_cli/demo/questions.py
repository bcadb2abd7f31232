"""Questions as people ask them, each in three wordings that mean the same: the first is asked first."""

from __future__ import annotations

QUESTIONS: tuple[tuple[str, str, str], ...] = (
    ("What is a hash table?", "What are hash tables?", "What is a hash table, please?"),
    ("How do I reverse a list in Python?", "How can I reverse a Python list?", "How do you reverse a list in Python?"),
    ("What does idempotent mean?", "What is the meaning of idempotent?", "What does the word idempotent mean?"),
    ("Why is the sky blue?", "Why does the sky look blue?", "Why is it that the sky is blue?"),
    ("What is a deadlock?", "What is meant by a deadlock?", "What exactly is a deadlock?"),
    ("How does HTTPS keep data private?", "How does HTTPS keep my data private?", "How is data kept private by HTTPS?"),
    (
        "What is the difference between TCP and UDP?",
        "What's the difference between TCP and UDP?",
        "How are TCP and UDP different?",
    ),
    ("How do I reset my password?", "How can I reset my password?", "I need to reset my password, how do I do it?"),
    ("What is a checksum used for?", "What are checksums used for?", "What is a checksum good for?"),
    ("How many days does a leap year have?", "How many days are in a leap year?", "How many days has a leap year?"),
    ("What is unit testing?", "What does unit testing mean?", "Can you tell me what unit testing is?"),
    ("How do I undo the last git commit?", "How can I undo my last git commit?", "How do I undo a git commit?"),
    ("What is a mutex?", "What is a mutex, exactly?", "Can you explain what a mutex is?"),
    ("What is the boiling point of water?", "At what temperature does water boil?", "What is water's boiling point?"),
    ("How do I cancel my order?", "How can I cancel my order?", "How do I cancel an order that I placed?"),
    ("What does a load balancer do?", "What is a load balancer for?", "What is the job of a load balancer?"),
    ("What is a primary key in a database?", "What is a database primary key?", "What's a primary key in a database?"),
    ("How do I read a file in Python?", "How can I read a file with Python?", "How do you read a file in Python?"),
    ("What is recursion?", "What does recursion mean?", "Can you explain recursion?"),
    ("How does a binary search work?", "How does binary search work?", "In what way does a binary search work?"),
    ("What is a semaphore?", "What are semaphores?", "What exactly is a semaphore?"),
    ("How long does delivery take?", "How long does the delivery take?", "How long will delivery take?"),
    (
        "What is garbage collection in Java?",
        "What does Java's garbage collection do?",
        "What is Java garbage collection?",
    ),
    ("How do plants make oxygen?", "How do plants produce oxygen?", "In what way do plants make oxygen?"),
    ("What is an IP address?", "What are IP addresses?", "Can you tell me what an IP address is?"),
)
