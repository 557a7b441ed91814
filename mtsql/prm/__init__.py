"""Process reward models: their text form, their labels, and what their scores are worth."""
