"""Asks a box one thing with the unmodified OpenAI client, over TLS with the box's own certificate:
client.py URL CERTIFICATE KEY MODEL PROMPT"""
import ssl
import sys

import openai

url, certificate, key, model, prompt = sys.argv[1:]
trusted = ssl.create_default_context(cafile=certificate)
client = openai.OpenAI(base_url=url, api_key=key, timeout=120, max_retries=2,
                       http_client=openai.DefaultHttpxClient(verify=trusted))
answer = client.chat.completions.create(model=model, temperature=0, max_tokens=32,
                                        messages=[{"role": "user", "content": prompt}])
print(answer.choices[0].message.content)
